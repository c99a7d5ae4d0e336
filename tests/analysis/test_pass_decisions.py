"""How many runs the passes give to each method, and at which learning rate a method goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import fake_records as fake

from paretune.analysis.cells import build_cells, group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.learning_rates import find_signs, judge_rates, list_further_rates
from paretune.analysis.passes import PassState, count_passes, decide_passes
from paretune.analysis.statistics.multiple_testing import correct_for_looks, level_of_look
from paretune.errors import StudyError
from paretune.store.record import Record
from paretune.study import OuterFold, Study

BASELINES = {"majority": 0.5, "tfidf": 0.55, "head_only": 0.6}
APART = BASELINES | {"full": 0.95, "lora": 0.75, "prompt": 0.7, "ia3": 0.65}
CLOSE = BASELINES | {"full": 0.9, "lora": 0.88, "prompt": 0.6, "ia3": 0.6}


def make_study(**changes: Any) -> Study:
    protocol = {"preset": "passes", "outer": 5, **changes.pop("protocol", {})}
    methods = ["full", "lora", "prompt", "ia3"]
    tasks = [fake.own_task("topics")]
    return fake.study(methods=methods, tasks=tasks, protocol=protocol, **changes)


def drawn(levels: dict[str, float], seed: int = 0, **changes: Any) -> tuple[Study, list[Record]]:
    """A study, and the records of all runs that it can have."""
    study = make_study(**changes)
    rng = np.random.default_rng(seed)
    return study, fake.draw_records(study, levels, rng, rows=300, seed_sd=0.03)


def begin(records: Sequence[Record], runs: int) -> list[Record]:
    """What has ended when every method has so many runs, and baselines all of the first pass."""
    baselines = max(runs, 5)
    return [
        r
        for r in records
        if r.run.stage == "cost"
        or r.run.seed <= (baselines if r.run.method.name in BASELINES else runs)
    ]


def decide(study: Study, records: Sequence[Record]) -> PassState:
    cells = [c for c in build_cells(study, records) if c.final or c.cost]
    return decide_passes(cells, study)


def count(state: PassState) -> dict[str, int]:
    return {method: number for (_, method), number in state.positions.items()}


@pytest.mark.parametrize("outer", ["split", 5])
@pytest.mark.parametrize("runs", [0, 1, 4])
def test_every_method_gets_the_first_pass(outer: str | int, runs: int) -> None:
    study, records = drawn(CLOSE, protocol={"outer": outer})
    state = decide(study, begin(records, runs))
    assert set(count(state).values()) == {5}
    assert state.in_play is None and not state.settled and not state.open


@pytest.mark.parametrize("outer", ["split", 5])
def test_a_clear_choice_is_settled_after_one_pass(outer: str | int) -> None:
    study, records = drawn(APART, protocol={"outer": outer})
    state = decide(study, begin(records, 5))
    assert state.settled and set(count(state).values()) == {5}
    assert state.in_play == {("e5-small", "full")}
    assert state.forecast is not None and state.forecast.worth_points < 0.01


def test_what_is_open_is_trained_once_more_and_baselines_keep_up() -> None:
    study, records = drawn(CLOSE)
    state = decide(study, begin(records, 5))
    numbers = count(state)
    assert not state.settled and state.open == {("e5-small", "full"), ("e5-small", "lora")}
    assert numbers["full"] == numbers["lora"] == 10 > 5 == numbers["prompt"] == numbers["ia3"]
    assert numbers["head_only"] == numbers["tfidf"] == 10


def test_a_decision_is_made_from_the_passes_before_it_alone() -> None:
    study, records = drawn(CLOSE)
    once = decide(study, begin(records, 5))
    further = [r for r in records if r.run.method.name in ("full", "lora") and r.run.seed <= 7]
    later = decide(study, [*further, *begin(records, 5)[::-1]])
    assert (once.positions, once.open) == (later.positions, later.open)


def test_passes_end_with_the_seeds() -> None:
    study, records = drawn(CLOSE, protocol={"seeds": [1, 2, 3, 4, 5]})
    state = decide(study, records)
    assert state.settled and set(count(state).values()) == {5}


def test_complete_gives_all_seeds_to_every_method() -> None:
    study, records = drawn(APART, protocol={"until": "complete"})
    state = decide(study, begin(records, 5))
    assert {count(state)[name] for name in ("full", "lora", "prompt", "ia3")} == {15}
    whole = decide(study, records)
    assert whole.settled and len(whole.in_play or ()) == 5


def test_pairs_with_a_reference_go_on_until_they_are_decided() -> None:
    study, records = drawn(APART | {"prompt": 0.75}, protocol={"reference": "lora"})
    state = decide(study, begin(records, 5))
    assert ("e5-small", "prompt") in state.open and ("e5-small", "lora") in state.open
    assert ("e5-small", "full") not in state.open


def test_what_exceeds_a_limit_gets_no_further_run() -> None:
    study, records = drawn(CLOSE, limits={"max_memory": "1GiB"})
    state = decide(study, begin(records, 1))
    assert count(state)["full"] == 1 and state.over_limit == {("e5-small", "full")}
    (cell,) = [c for c in group_into_cells(study, begin(records, 1)) if c.method == "full"]
    assert cell.over_limit and cell.finished and cell.expected_runs == 1


def test_a_cell_expects_what_it_is_given() -> None:
    study, records = drawn(CLOSE)
    cells = {c.method: c for c in group_into_cells(study, begin(records, 5))}
    assert cells["full"].expected_runs == 10 and not cells["full"].finished
    assert cells["ia3"].expected_runs == 5 and cells["ia3"].finished


# Learning rates


def run_of(seed: int, rate: float, quality: float, **result: Any) -> Record:
    begun_at = None if rate == 1e-3 else 1e-3
    changes = {"outer": OuterFold.at(seed - 1, 5), "learning_rate": rate, "begun_at": begun_at}
    run = fake.make_run(make_study(), "final", "lora", seed, **changes)
    part = fake.answers(quality, n=40, seed=seed, part=f"part{seed}")
    outcome = result.pop("outcome", "ok")
    return fake.record(run, {"selection": part}, outcome, result=result)


def pass_of(rate: float, quality: float, **result: Any) -> list[Record]:
    return [run_of(seed, rate, quality, **result) for seed in range(1, 6)]


@pytest.mark.parametrize(
    ("result", "reason", "rates"),
    [
        ({"best_step": 40}, "", (1e-4, 1e-2)),
        ({"best_step": 80}, "still improving at its end", (1e-2,)),
        ({"best_step": 10}, "best at its start", (1e-4,)),
        ({"best_step": 40, "outcome": "diverged"}, "diverged", (1e-4,)),
        ({"best_step": 40, "curve": [{"step": 80, "loss": 2.0}]}, "did not learn", (1e-4, 1e-2)),
        (
            {"best_step": 40, "curve": [{"step": 80, "loss": 0.5}]},
            "did not fit its training rows",
            (1e-2,),
        ),
    ],
)
def test_evidence_asks_for_further_rates(
    result: dict[str, Any], reason: str, rates: tuple[float, ...]
) -> None:
    signs = find_signs(pass_of(1e-3, 0.7, **result))
    assert [*signs] == ([reason] if reason else [])
    assert list_further_rates((1e-4, 1e-3, 1e-2), signs) == rates


def test_less_than_half_of_the_runs_are_no_evidence() -> None:
    records = pass_of(1e-3, 0.7, best_step=40)
    late = [run_of(seed, 1e-3, 0.7, best_step=80) for seed in (1, 2, 3)]
    assert not find_signs([late[0], *records[1:]])
    assert find_signs([*late, *records[3:]]) == {"still improving at its end": 3}


def test_each_direction_that_a_sign_asks_for_is_tried() -> None:
    late = run_of(1, 1e-3, 0.7, best_step=80)
    early = [run_of(seed, 1e-3, 0.7, best_step=10) for seed in (2, 3)]
    signs = find_signs([late, *early, *pass_of(1e-3, 0.7, best_step=40)[3:]])
    assert list_further_rates((1e-5, 1e-4, 1e-3, 1e-2, 1e-1), signs) == (1e-4, 1e-2)


def test_a_method_moves_to_the_rate_with_the_best_mean() -> None:
    first = pass_of(1e-3, 0.6, best_step=80)
    worse, ahead = pass_of(1e-2, 0.5), pass_of(1e-2, 0.7)
    stays, moves = judge_rates(first, worse), judge_rates(first, ahead)
    assert (stays.rate, stays.begun) == (1e-3, None)
    assert (moves.rate, moves.begun, moves.edge) == (1e-2, 1e-3, "highest")
    assert moves.reason == "still improving at its end"
    assert [len(trial.runs) for trial in moves.table] == [5, 5]
    assert judge_rates(first, ahead[:4]).rate == 1e-3  # not before it has ended in all folds


def test_what_diverged_in_all_folds_is_left_for_what_trained() -> None:
    lost = [fake.record(r.run, outcome="diverged") for r in pass_of(1e-3, 0.6)]
    assert judge_rates(lost, pass_of(1e-4, 0.4)).rate == 1e-4


def test_scores_are_of_the_rate_that_a_method_has_moved_to() -> None:
    study = make_study()

    def tested(records: list[Record]) -> list[Record]:
        parts = ({**r.predictions, "test": r.predictions["selection"]} for r in records)
        return [replace(r, predictions=p) for r, p in zip(records, parts, strict=True)]

    first, higher = pass_of(1e-3, 0.6, best_step=80), pass_of(1e-2, 0.9)
    (cell,) = [c for c in group_into_cells(study, tested([*first, *higher])) if c.method == "lora"]
    assert cell.rate == 1e-2 and len(cell.final) == 5 and len(cell.tuning) == 5
    assert cell.choice.begun == 1e-3 and not cell.other_settings


# Claims at several looks


@pytest.mark.parametrize(("looks", "bound"), [(2, 2.178), (3, 2.289), (5, 2.413)])
def test_looks_without_a_shared_part_are_pococks(
    looks: int, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The constants of Pocock (1977) for a level of 5 %."""
    from scipy.special import ndtr

    from paretune.analysis.statistics import multiple_testing

    monkeypatch.setattr(multiple_testing, "SHARED", 0.0)
    assert correct_for_looks(2 * float(ndtr(-bound)), looks) == pytest.approx(0.05, abs=2e-4)


def test_a_level_of_a_look_is_what_is_paid() -> None:
    assert correct_for_looks(0.03, 1) == 0.03 and level_of_look(0.05, 1) == 0.05
    for looks in (2, 3, 6):
        level = level_of_look(0.05, looks)
        assert correct_for_looks(level, looks) == pytest.approx(0.05, rel=1e-6)
        assert 0.05 / looks < level < 0.05


def test_passes_pay_for_their_looks_and_complete_is_judged_at_its_end() -> None:
    settled, records = drawn(CLOSE)
    complete = make_study(protocol={"until": "complete"})
    assert count_passes(settled.protocol, 5) == 3 and count_passes(complete.protocol, 5) == 1

    def compare(study: Study, runs: int) -> Any:
        comparisons = PairwiseComparisons(group_into_cells(study, begin(records, runs)))
        return next(p for p in comparisons.pairs("e5-small") if (p.a, p.b) == ("full", "prompt"))

    early, late = compare(settled, 5), compare(complete, 15)
    assert early.standing == "above" and early.looks == 3
    assert compare(complete, 5).withheld == "unfinished" and late.standing == "above"


# Study files


def test_files_of_0_2_are_read_as_they_were_meant() -> None:
    for protocol in ({"folds": 1}, {"tuning_seed": 7}, {"preset": "fair"}, {"race": "off"}):
        study = Study.parse({**RAW, "protocol": protocol})
        assert study.protocol.preset == "trials" and study.protocol.trials == 3
        assert study.protocol.seeds == (1, 2, 3, 4, 5)
        assert study.canonical_form()["protocol"]["preset"] == "fair"
    new = Study.parse(RAW).protocol
    assert Study.parse({**RAW, "protocol": new.model_dump()}).protocol == new
    assert (new.preset, new.trials, len(new.seeds)) == ("passes", 1, 15)
    assert len(Study.parse({**RAW, "protocol": {"outer": 4}}).protocol.seeds) == 12


RAW = {"study": "s", "tasks": [fake.own_task("t")], "models": ["m"], "methods": ["lora"]}


@pytest.mark.parametrize(
    ("protocol", "reason"),
    [
        ({"preset": "passes", "folds": 1}, "folds: is for preset: trials"),
        ({"preset": "passes", "race": "recommendation"}, "race: is of version 0.2"),
        ({"preset": "trials", "until": "complete"}, "until: is for preset: passes"),
    ],
)
def test_keys_of_a_different_preset_are_refused(protocol: dict[str, Any], reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        Study.parse({**RAW, "protocol": protocol})
