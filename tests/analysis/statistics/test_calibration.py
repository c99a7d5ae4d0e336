"""Do the verdicts err as rarely as they say, and find as often as they promise? Simulated studies.

An example has an ease, shared by all methods; a seed of a method has a skill around the method's.
Answers are right with the logistic probability of their sum. So methods of equal skill have equal
expected scores, examples are paired, and seeds differ. ``bench/verdicts`` has many more worlds.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from paretune.analysis.pairs import compare_all_pairs, rank_ranges
from paretune.analysis.statistics.differences import pool_runs
from paretune.analysis.statistics.intervals import score_difference
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.analysis.statistics.scores import RunScores, TestDesign, score_runs
from paretune.store.record import Predictions

LEVEL, SLACK = 0.05, 0.01


def simulated(
    rng: np.random.Generator,
    skills: list[float],
    seeds: int,
    n: int,
    spread: float,
    folds: int = 0,
    metric: str = "accuracy",
) -> dict[str, RunScores]:
    """One study of a method for each skill, by its place; with folds one pass over the rows."""
    ease, label, fold_of = rng.normal(0, 1.2, n), rng.integers(0, 2, n), rng.permutation(n)
    uid, labels = tuple(map(str, range(n))), tuple(label.tolist())
    design = TestDesign(folds, 1) if folds else TestDesign()
    cells = {}
    for place, skill in enumerate(skills):
        parts = []
        for _ in range(1 if folds else seeds):
            runs = rng.normal(size=folds)[fold_of % folds] if folds else rng.normal()
            chance = 1 / (1 + np.exp(-(1 + skill + spread * runs + ease)))
            answer = np.where(rng.random(n) < chance, label, 1 - label)
            parts.append(Predictions(uid, labels, tuple(answer.tolist()), ()))
        crossed = fold_of[None] % folds if folds else None
        cells[str(place)] = score_runs(parts, metric, design, crossed)
    return cells


def skill_of_5_points(spread: float) -> float:
    """What scores 5 points above a skill of 0."""
    points = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)

    def truth(skill: float) -> float:
        return float((1 / (1 + np.exp(-(1 + skill + np.hypot(1.2, spread) * points)))).mean())

    return float(optimize.brentq(lambda s: truth(s) - truth(0.0) - 0.05, 0.1, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.parametrize(
    ("seeds", "n", "spread", "folds"),
    [(1, 60, 0.0, 0), (3, 60, 0.5, 0), (5, 100, 0.3, 0), (1, 300, 0.05, 5), (1, 300, 0.3, 5)],
)
def test_of_four_equal_methods_hardly_ever_is_one_called_better(
    seeds: int, n: int, spread: float, folds: int, metric: str
) -> None:
    rng, studies = np.random.default_rng([seeds, n, folds]), 1000
    wrong = 0
    for _ in range(studies):
        cells = simulated(rng, [0.0] * 4, seeds, n, spread, folds, metric)
        wrong += any(
            pair.standing != "unclear" for pair in compare_all_pairs(cells, pool_runs(cells))
        )
    print(f"{metric}, {seeds} seeds, {n} rows, {spread}, {folds}: {100 * wrong / studies:.1f} %")
    assert wrong / studies <= LEVEL + SLACK


@pytest.mark.slow
def test_all_true_ranks_lie_in_the_ranges_at_once() -> None:
    rng, studies, n_covered = np.random.default_rng(9), 1000, 0
    for _ in range(studies):
        cells = simulated(rng, [1.5, 0.8, 0.75, 0.0], 3, 200, 0.2)
        ranges = rank_ranges(list(cells), compare_all_pairs(cells, pool_runs(cells)))
        n_covered += all(ranges[str(i)].best <= i + 1 <= ranges[str(i)].worst for i in range(4))
    print(f"all true ranks in {100 * n_covered / studies:.1f} % of studies")
    assert n_covered / studies >= 1 - LEVEL - SLACK


@pytest.mark.slow
@pytest.mark.parametrize("quantity", ["examples", "seeds", "cross_validated_rows"])
def test_what_is_asked_for_finds_5_points_in_eight_of_ten(quantity: str) -> None:
    rng, num_decided, studies = np.random.default_rng(len(quantity)), 0, 0
    spread = {"examples": 0.0, "seeds": 0.3, "cross_validated_rows": 0.05}[quantity]
    seeds, n = (1, 200) if quantity == "examples" else (5, 400 if quantity == "seeds" else 200)
    skill = skill_of_5_points(spread)
    for _ in range(60):
        pilot = simulated(rng, [skill, 0.0], seeds, n, spread)
        size = estimate_sample_size(
            pilot["0"], pilot["1"], deterministic=(quantity == "examples",) * 2
        )
        count = getattr(size, quantity)
        for _ in range(5 if count and count <= 3000 else 0):
            if quantity == "cross_validated_rows":
                cells = simulated(rng, [skill, 0.0], 1, count, spread, 5)
            else:
                sizes = (1, count) if quantity == "examples" else (count, n)
                cells = simulated(rng, [skill, 0.0], *sizes, spread)
            num_decided += score_difference(cells["0"], cells["1"]).p < LEVEL
            studies += 1
    print(f"{quantity} decide in {100 * num_decided / studies:.1f} % of {studies} studies")
    assert studies >= 50 and 0.72 <= num_decided / studies <= 0.88
