"""What a search has proposed is kept: another processor that rounds otherwise goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from paretune import methods
from paretune.store import Store
from paretune.study import MethodSpec
from paretune_autopeft.schedule import Cost, History, Schedule, TrialScore
from paretune_autopeft.search import PROPOSALS_PREFIX, recall_batch
from paretune_autopeft.space import Configuration, make_space

SPACE = make_space(
    [methods.configure_method(MethodSpec(name=name)) for name in ("lora", "ia3")],
    6,
    groups=2,
    at_most=2,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", create=True) as opened:
        yield opened


def price_of(point: Configuration) -> float:
    return 11.0 + sum(map(sum, point.groups))


def search(
    store: Store | None, name: str = "a", trials: dict[Configuration, TrialScore] | None = None
) -> list[Configuration]:
    """A search to its end, as a process of its own replays it; ``trials``: what has ended."""
    trials = {} if trials is None else trials
    schedule = Schedule(SPACE, lambda point: Cost(price_of(point)), budget=12.0)
    recall = partial(recall_batch, store, name, {})
    while True:
        state = schedule.replay(trials.get, recall)
        if state.finished:
            return list(state.proposed)
        for point in state.waiting:
            score = 0.39 + 0.01 * price_of(point)
            trials[point] = TrialScore(score, 0.02**2, price_of(point))


def round_otherwise(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on the first of each batch is refused; the calls are counted."""
    propose, calls = Schedule.propose, [0]

    def propose_others(schedule: Schedule, history: History) -> list[Configuration]:
        calls[0] += 1
        return propose(schedule, history)[1:]

    monkeypatch.setattr(Schedule, "propose", propose_others)
    return calls


def test_another_processor_goes_on_with_the_same_search(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(store)
    proposals = store.get_settings(PROPOSALS_PREFIX)
    assert len(proposals) > 1
    calls = round_otherwise(monkeypatch)
    assert search(store) == first and calls == [0]
    assert store.get_settings(PROPOSALS_PREFIX) == proposals
    assert search(None) != first and calls[0] > 0  # what the store prevents
    assert search(store, "b") != first  # another search's proposals are its own


def test_other_results_are_another_history(store: Store) -> None:
    trials: dict[Configuration, TrialScore] = {}
    first = search(store, trials=trials)
    batches = len(store.get_settings(PROPOSALS_PREFIX))
    changed = {first[0]: TrialScore(0.0, 0.0, price_of(first[0]), lost=True)}
    search(store, trials=changed)
    assert len(store.get_settings(PROPOSALS_PREFIX)) > batches
    rounded = {p: TrialScore(t.score, t.variance * (1 + 1e-12), t.price) for p, t in trials.items()}
    before = store.get_settings(PROPOSALS_PREFIX)
    assert search(store, trials=rounded) == first and store.get_settings(PROPOSALS_PREFIX) == before


def test_the_first_batch_that_is_kept_stays(store: Store) -> None:
    first, second = list(SPACE.everywhere())[:2]
    history = ((first,), (TrialScore(0.5, 0.01, 1.0),))

    def late() -> list[Configuration]:
        """Of a process that proposes while another one keeps its batch."""
        assert recall_batch(store, "a", {}, history, lambda: [first]) == (first,)
        return [second]

    assert recall_batch(store, "a", {}, history, late) == (first,)
    assert recall_batch(store, "b", {}, history, lambda: [second]) == (second,)


def test_a_store_that_can_only_be_read_is_not_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "is_writable", False)
    assert len(search(store)) == 12
    assert store.get_settings(PROPOSALS_PREFIX) == {}
