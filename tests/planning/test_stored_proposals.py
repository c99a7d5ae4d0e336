"""What a search has proposed is kept: another processor that rounds otherwise goes on with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from paretune import methods
from paretune.autopeft import schedule
from paretune.autopeft.schedule import Cost, SearchSettings, Trial
from paretune.autopeft.space import Configuration, make_space
from paretune.planning.stored_proposals import PREFIX, StoredProposals
from paretune.store import Store
from paretune.study import MethodSpec

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


def search(
    store: Store | None, name: str = "a", trials: dict[Configuration, Trial] | None = None
) -> list[Configuration]:
    """A search to its end, as a process of its own replays it; ``trials``: what has ended."""
    trials = {} if trials is None else trials
    known: dict[Any, Sequence[Configuration]] = {}
    while True:
        state = schedule.continue_search(
            SPACE,
            lambda one: Cost(1.0 + sum(map(sum, one.groups)) + 10, 1.0),
            trials,
            SearchSettings(budget=12.0),
            StoredProposals(store, name, known),
        )
        if state.finished:
            return list(state.proposed)
        for one in state.waiting:
            trials[one] = Trial(0.5 + 0.01 * sum(map(sum, one.groups)), 0.02**2)


def round_otherwise(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on the first of each batch is refused; the calls are counted."""
    propose, calls = schedule._propose, [0]

    def propose_others(*arguments: Any) -> list[Configuration]:
        calls[0] += 1
        return propose(*arguments)[1:]

    monkeypatch.setattr(schedule, "_propose", propose_others)
    return calls


def test_another_processor_goes_on_with_the_same_search(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(store)
    proposals = store.get_settings(PREFIX)
    assert len(proposals) > 1
    calls = round_otherwise(monkeypatch)
    assert search(store) == first and calls == [0]
    assert store.get_settings(PREFIX) == proposals
    assert search(None) != first and calls[0] > 0  # what the store prevents
    assert search(store, "b") != first  # another search's proposals are its own


def test_other_results_are_another_history(store: Store) -> None:
    trials: dict[Configuration, Trial] = {}
    first = search(store, trials=trials)
    batches = len(store.get_settings(PREFIX))
    changed = {first[0]: Trial(0.0, 0.0, lost=True)}
    search(store, trials=changed)
    assert len(store.get_settings(PREFIX)) > batches
    rounded = {one: Trial(own.score, own.variance * (1 + 1e-12)) for one, own in trials.items()}
    before = store.get_settings(PREFIX)
    assert search(store, trials=rounded) == first and store.get_settings(PREFIX) == before


def test_the_first_batch_that_is_kept_stays(store: Store) -> None:
    one, other = list(SPACE.everywhere())[:2]
    history = ((one,), (Trial(0.5, 0.01),))
    assert list(StoredProposals(store, "a", {}).keep(history, [one])) == [one]
    late = StoredProposals(store, "a", {})  # of a process that knew of none
    assert list(late.keep(history, [other])) == [one]
    assert late.find(history) == (one,)
    assert StoredProposals(store, "b", {}).find(history) is None


def test_a_store_that_can_only_be_read_is_not_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "is_writable", False)
    assert len(search(store)) == 12
    assert store.get_settings(PREFIX) == {}
