"""The claims of a race are some of those that the same rules make with all runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import fake_cells

from paretune.analysis.cell import Cell
from paretune.analysis.comparisons import PairwiseComparisons, correct_by_family
from paretune.analysis.racing.rounds import allowed_positions
from paretune.study import Study

METHODS = ("full", "lora", "prompt", "ia3", "bitfit")
LEVELS = {"majority": 0.5, "tfidf": 0.6, "head_only": 0.62}


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


def compare_stops(draws: int, outer: str | int, seed: int) -> int:
    """Number of claims that were compared."""
    rng = np.random.default_rng(seed)
    compared = 0
    for _ in range(draws):
        study = fake_cells.raced(METHODS, protocol={"outer": outer})
        levels = LEVELS | {m: float(rng.uniform(0.55, 0.95)) for m in METHODS}
        spread = {m: float(rng.choice([0.005, 0.03, 0.1])) for m in METHODS}
        records = fake_cells.draw_records(
            study,
            levels,
            rng,
            rows=int(rng.choice([60, 200])),
            seed_sd=spread,
            failing=float(rng.choice([0.0, 0.0, 0.2])),
        )
        cells = fake_cells.cells_of(study, records)
        for counts in adversarial(cells, study, rng):
            whole = claims(cells)
            raced = claims(stop(cells, study, counts))
            assert raced <= whole, (counts, raced - whole)
            compared += len(raced)
    return compared


@pytest.mark.parametrize("outer", ["split", 5])
def test_claims_after_any_stopping_are_claims_of_all_runs(outer: str | int) -> None:
    assert compare_stops(3, outer, 3) > 5


@pytest.mark.slow
@pytest.mark.parametrize("outer", ["split", 5])
@pytest.mark.parametrize("seed", range(4))
def test_many_draws_of_any_stopping(outer: str | int, seed: int) -> None:
    assert compare_stops(60, outer, 100 + seed) > 50


def test_corrections_only_grow_when_p_values_are_replaced_by_1() -> None:
    """The step of the proof: Shaffer's and the rows' corrections are monotone."""
    rng = np.random.default_rng(5)
    study = fake_cells.raced(METHODS)
    records = fake_cells.draw_records(study, LEVELS | dict.fromkeys(METHODS, 0.7), rng)
    cells = {c.method: c for c in fake_cells.cells_of(study, records)}
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
    study = fake_cells.raced(METHODS)
    records = fake_cells.draw_records(
        study, LEVELS | dict.fromkeys(METHODS, 0.6) | {"lora": 0.95}, rng, rows=200
    )
    cells = fake_cells.cells_of(study, records)
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
