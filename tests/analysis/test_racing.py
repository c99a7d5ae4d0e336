"""Which runs a race asks for, and that its claims are some of those that all runs make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import fake_records as fake

from paretune.analysis.cell import Cell
from paretune.analysis.cells import build_cells, group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons, correct_by_family
from paretune.analysis.pareto.recommend import Budget, choose, recommend
from paretune.analysis.racing import (
    DECIDED,
    RaceState,
    allowed_positions,
    decide_rounds,
    simulate_completions,
)
from paretune.store.record import Record
from paretune.study import Study

LEVELS = {"majority": 0.5, "tfidf": 0.55, "head_only": 0.6}
APART = LEVELS | {"full": 0.95, "lora": 0.75, "prompt": 0.7, "ia3": 0.65}
ALIKE = LEVELS | dict.fromkeys(("full", "lora", "prompt", "ia3"), 0.8)


def drawn(levels: dict[str, float], seed: int = 0, **changes: Any) -> tuple[Study, list[Record]]:
    protocol = changes.pop("protocol", {})
    study = fake.raced(protocol=protocol, **changes.pop("study", {}))
    return study, fake.draw_records(study, levels, np.random.default_rng(seed), **changes)


def decide(study: Study, records: Sequence[Record]) -> RaceState:
    return decide_rounds(build_cells(study, records), study)


def count_seeds(state: RaceState) -> dict[str, int]:
    return {method: count for (_, method), count in state.positions.items()}


@pytest.mark.parametrize("outer", ["split", 5])
def test_a_clear_choice_ends_after_two_runs_and_baselines_have_all(outer: str | int) -> None:
    study, records = drawn(APART, rows=300, protocol={"outer": outer})
    state = decide(study, records)
    counts = count_seeds(state)
    assert state.over and state.forecast is not None and state.forecast.agreement >= DECIDED
    assert {counts[m] for m in ("full", "lora", "prompt", "ia3")} == {2}
    assert counts["head_only"] == counts["tfidf"] == 5
    assert set(state.stopped.values()) == {"no change"}


def test_methods_that_may_still_be_chosen_go_on() -> None:
    study, records = drawn(LEVELS | {"full": 0.9, "lora": 0.87, "prompt": 0.6, "ia3": 0.6}, seed=2)
    counts = count_seeds(decide(study, records))
    assert counts["full"] == counts["lora"] > 2 == counts["prompt"] == counts["ia3"]


def test_the_order_of_ending_and_later_runs_change_no_round() -> None:
    study, records = drawn(LEVELS | {"full": 0.9, "lora": 0.87, "prompt": 0.8, "ia3": 0.6}, seed=2)
    state = decide(study, records)
    assert decide(study, records[::-1]) == state
    race_records = [
        r
        for r in records
        if r.run.stage == "cost"
        or study.protocol.seeds.index(r.run.seed) < count_seeds(state)[r.run.method.key]
    ]
    assert len(race_records) < len(records)
    assert decide(study, race_records) == state
    # With some of the later runs missing, it asks for no more, and never for others.
    for left_out in (race_records[-1], *race_records[-8:-1:3]):
        some = decide(study, [r for r in race_records if r is not left_out])
        assert all(some.positions[key] <= count for key, count in state.positions.items())


def test_nothing_trains_before_costs_are_known_nor_beyond_a_limit() -> None:
    study, records = drawn(ALIKE, study={"limits": {"max_memory": "900MiB"}})
    finals = [r for r in records if r.run.stage == "final"]
    waiting = decide(study, finals)
    counts = count_seeds(waiting)
    assert not waiting.measured and counts["lora"] == 0 == counts["full"]
    state = decide(study, records)
    assert fake.MEGABYTES["full"] > 900
    assert state.stopped["e5-small", "full"] == "limit" and count_seeds(state)["full"] == 0
    assert count_seeds(state)["lora"] >= 2


@pytest.mark.parametrize(
    ("outer", "failing", "trained", "best"),
    [
        ("split", (2,), 5, 2),
        ("split", (1, 3, 5), 5, 2),
        ("split", (1, 2, 3), 3, 2),
        (5, (2,), 5, 5),
    ],
)
def test_a_failure_keeps_its_method_until_half_of_its_runs_failed(
    outer: str | int, failing: tuple[int, ...], trained: int, best: int
) -> None:
    """By cross-validation the best goes on with it, since what is behind is not recommended."""
    study, records = drawn(APART, rows=300, protocol={"outer": outer})
    records = [
        _answer_constant(r)
        if (r.run.method.name, r.run.stage) == ("ia3", "final") and r.run.seed in failing
        else r
        for r in records
    ]
    counts = count_seeds(decide(study, records))
    assert (counts["ia3"], counts["lora"], counts["full"]) == (trained, 2, best)


def _answer_constant(record: Record) -> Record:
    part = record.predictions["test"]
    constant = part.__class__(part.uid, part.label, (0,) * len(part.uid), ())
    return fake.record(record.run, {"test": constant}, "collapsed")


@pytest.mark.parametrize("outer", ["split", 5])
def test_a_stopped_study_recommends_what_the_full_one_does(outer: str | int) -> None:
    study, records = drawn(APART, rows=300, protocol={"outer": outer})
    counts = count_seeds(decide(study, records))
    race_records = [
        r
        for r in records
        if r.run.stage == "cost"
        or study.protocol.seeds.index(r.run.seed) < counts[r.run.method.key]
    ]
    cells = group_into_cells(study, race_records)
    assert {c.stop for c in cells if not c.baseline} == {"no change"}
    assert all(cell.finished for cell in cells)
    chosen = recommend(cells).chosen
    full = recommend(build_cells(study, records)).chosen
    assert chosen is not None and full is not None
    assert chosen.cell.method == full.cell.method == "full"


def complete(cells: Sequence[Cell], runs: int) -> dict[str, Any]:
    """Completions of each method to so many runs, (4000,), and the scores that were seen."""
    candidates = choose(cells, Budget()).candidates
    trained = [runs] * len(candidates)
    means = simulate_completions(candidates, trained, 4000, np.random.default_rng(0))
    return {
        c.cell.method: (drawn, c.expected.score)
        for c, drawn in zip(candidates, means.T, strict=True)
    }


def test_completions_keep_what_is_known_and_spread_as_much_as_runs_do() -> None:
    study, records = drawn(ALIKE, rows=2000, seed_sd=0.02)
    cells = [
        allowed_positions(c, study.protocol, 5 if c.baseline or c.method == "full" else 2)
        for c in build_cells(study, records)
    ]
    completions = complete(cells, 5)
    for method in ("majority", "tfidf", "head_only", "full"):  # these have all their runs
        drawn_means, seen = completions[method]
        assert np.allclose(drawn_means, seen.estimate)
    for method in ("lora", "prompt", "ia3"):
        drawn_means, seen = completions[method]
        assert abs(drawn_means.mean() - seen.estimate) < 0.01
        # Runs scatter by 0.02, of which 3/5 is the mean of 3 and as much that of 2.
        assert 0.5 < drawn_means.std() / (0.02 * 3 / 5 * np.sqrt(1 / 2 + 1 / 3)) < 1.6


def test_folds_that_are_hard_for_all_are_no_difference_between_methods() -> None:
    study = fake.raced(("full", "lora"), protocol={"outer": 5})
    alike = [r for m in ("full", "lora") for r in fake.crossed_cell(study, m, 0.8, 5)[:2]]
    completions = complete(fake.topic_cells(study, alike), 5)
    full, lora = (completions[method][0] for method in ("full", "lora"))
    assert full.std() > 0.03
    independent = np.hypot(full.std(), lora.std())
    assert (full - lora).std() < 0.6 * independent


def test_baselines_that_have_all_folds_are_uncertain_where_methods_have_not_answered() -> None:
    study, records = drawn(ALIKE, rows=300, protocol={"outer": 5})
    two_folds = [
        c if c.baseline else allowed_positions(c, study.protocol, 2)
        for c in build_cells(study, records)
    ]
    completions = complete(two_folds, 5)
    assert all(drawn_means.std() > 0.01 for drawn_means, _ in completions.values())


METHODS = ("full", "lora", "prompt", "ia3", "bitfit")
BASELINES = {"majority": 0.5, "tfidf": 0.6, "head_only": 0.62}


def claims(cells: list[Cell]) -> set[tuple[str, str]]:
    comparisons = PairwiseComparisons(cells)
    pairs = set()
    for pair in comparisons.pairs("e5-small"):
        if pair.standing != "unclear":
            winner, loser = (pair.a, pair.b)[:: 1 if pair.standing == "above" else -1]
            pairs.add((winner, loser))
    for cell in cells:
        verdict = comparisons.verdict(cell)
        if verdict is not None and verdict.above_all:
            pairs.add((cell.method, "all baselines"))
    return pairs


def stop(cells: list[Cell], study: Study, counts: dict[str, int]) -> list[Cell]:
    return [
        allowed_positions(c, study.protocol, counts[c.method]) if c.method in counts else c
        for c in cells
    ]


def adversarial(cells: list[Cell], study: Study, rng: np.random.Generator) -> list[dict[str, int]]:
    """Random stops; and those that a claimant would choose who has seen every answer."""
    chosen = [
        {m: int(rng.choice([2, 3, 4, 5, 5, 5])) for m in METHODS},
        {m: int(rng.choice([2, 5])) for m in METHODS},
    ]
    variance = {c.method: c.run_scores.run_variance if c.run_scores else 1.0 for c in cells}
    score = {c.method: c.run_scores.estimate if c.run_scores else 0.0 for c in cells}
    unsteady = sorted(METHODS, key=variance.__getitem__)[-2:]
    middle = sorted(METHODS, key=score.__getitem__)[1:-1]
    for left_out in (unsteady, middle):
        chosen.append({m: 2 if m in left_out else 5 for m in METHODS})
        chosen.append({m: 3 if m in left_out else 5 for m in METHODS})
    return chosen


@pytest.mark.parametrize("outer", ["split", 5])
@pytest.mark.parametrize(
    ("draws", "seed"),
    [(3, 3), *(pytest.param(60, 100 + seed, marks=pytest.mark.slow) for seed in range(4))],
)
def test_claims_after_any_stopping_are_claims_of_all_runs(
    draws: int, seed: int, outer: str | int
) -> None:
    rng = np.random.default_rng(seed)
    compared = 0
    for _ in range(draws):
        study = fake.raced(METHODS, protocol={"outer": outer})
        levels = BASELINES | {m: float(rng.uniform(0.55, 0.95)) for m in METHODS}
        spread = {m: float(rng.choice([0.005, 0.03, 0.1])) for m in METHODS}
        records = fake.draw_records(
            study,
            levels,
            rng,
            rows=int(rng.choice([60, 200])),
            seed_sd=spread,
            failing=float(rng.choice([0.0, 0.0, 0.2])),
        )
        cells = build_cells(study, records)
        for counts in adversarial(cells, study, rng):
            whole = claims(cells)
            raced = claims(stop(cells, study, counts))
            assert raced <= whole, (counts, raced - whole)
            compared += len(raced)
    assert compared > (5 if draws == 3 else 50)


def test_corrections_only_grow_when_p_values_are_replaced_by_1() -> None:
    """The step of the proof: Shaffer's and the rows' corrections are monotone."""
    rng = np.random.default_rng(5)
    study = fake.raced(METHODS)
    records = fake.draw_records(study, BASELINES | dict.fromkeys(METHODS, 0.7), rng)
    cells = {c.method: c for c in build_cells(study, records)}
    names = [(a, b) for i, a in enumerate(cells) for b in list(cells)[i + 1 :]]
    for _ in range(300):
        p_values = {pair: float(10 ** rng.uniform(-6, 0)) for pair in names}
        stopped = {m for m in METHODS if rng.random() < 0.4}
        raised = {
            pair: 1.0 if stopped & {*pair} else p * (1 if rng.random() < 0.5 else 2)
            for pair, p in p_values.items()
        }
        absent = {m for m in stopped if rng.random() < 0.5}
        raised = {pair: min(p, 1.0) for pair, p in raised.items() if not absent & {*pair}}
        before, after = correct_by_family(p_values, cells), correct_by_family(raised, cells)
        assert all(after[pair][0] >= before[pair][0] - 1e-12 for pair in raised)


def test_without_a_race_nothing_changes_and_a_stopped_pair_has_no_verdict() -> None:
    rng = np.random.default_rng(1)
    study = fake.raced(METHODS)
    records = fake.draw_records(
        study, BASELINES | dict.fromkeys(METHODS, 0.6) | {"lora": 0.95}, rng, rows=200
    )
    cells = build_cells(study, records)
    counts = dict.fromkeys(METHODS, 5) | {"prompt": 2}
    stopped = stop(cells, study, counts)
    pairs = {(p.a, p.b): p for p in PairwiseComparisons(stopped).pairs("e5-small")}
    lost = pairs[("lora", "prompt")]
    assert (lost.standing, lost.withheld, lost.p_holm) == ("unclear", "stopped", 1.0)
    assert pairs[("full", "lora")].standing == "below"
    assert {p.family for names, p in pairs.items() if {*names} <= {*METHODS}} == {10}
    assert PairwiseComparisons(stopped).shortfall(cells[0]) is None
    plain = [replace(cell, raced=False) for cell in cells]
    assert PairwiseComparisons(plain).shortfall(plain[0]) is not None
