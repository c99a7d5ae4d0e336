"""The two rules of a verdict beside textbook tests and beside the formulas written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from support import fake_records as fake

from paretune.analysis.statistics.differences import (
    ROW_FACTOR,
    Estimate,
    RunScatter,
    estimate_variances,
    on_common_rows,
    pool_runs,
    row_variance,
)
from paretune.analysis.statistics.intervals import score_difference
from paretune.analysis.statistics.scores import RunScores, TestDesign, score_runs
from paretune.errors import StoreError
from paretune.store.record import Predictions

FOLDS = 5


def cell(quality: float, seeds: int = 3, n: int = 200, noise: int = 0) -> RunScores:
    parts = [fake.answers(quality, n=n, seed=s + noise) for s in range(seeds)]
    return score_runs(parts, "accuracy")


def crossed(
    quality: float, noise: int, passes: int = 1, rows: range = range(200), metric: str = "accuracy"
) -> RunScores:
    """A cell of 200 rows in five folds, each pass with answers of its own."""
    fold_of = np.stack([np.random.default_rng(r).permutation(200) % FOLDS for r in range(passes)])
    places, parts = [*rows], []
    for number in range(passes):
        part = fake.answers(quality, n=200, seed=noise + 50 * number)
        columns = [tuple(c[i] for i in places) for c in (part.uid, part.label, part.prediction)]
        parts.append(Predictions(*columns, ()))
    return score_runs(parts, metric, TestDesign(FOLDS, passes), fold_of[:, places])


def bare(score: RunScores) -> RunScores:
    """Without the least variance that imaginary rows leave."""
    return replace(score, credit=None)


def right(score: RunScores) -> np.ndarray:
    """Which answers are right, (runs, rows), of accuracy."""
    return np.asarray(score.from_sums(score.tables.astype(float)))


def test_values_of_a_mean_are_its_rows_and_of_f1_say_what_a_bootstrap_says() -> None:
    accuracy = cell(0.7)
    assert np.allclose(accuracy.values, right(accuracy))
    parts = [fake.answers(0.6, n=300, seed=3)]
    label, answer = np.array(parts[0].label), np.array(parts[0].prediction)
    rng, slow = np.random.default_rng(0), []
    for _ in range(300):
        rows = rng.integers(0, 300, 300)
        slow.append(f1_score(label[rows], answer[rows], average="macro"))
    f1 = score_runs(parts, "macro_f1")
    assert f1.values.mean() == pytest.approx(f1.estimate, abs=1e-12)
    assert row_variance(f1) ** 0.5 == pytest.approx(np.std(slow), rel=0.12)


def test_with_one_run_each_it_is_the_paired_t_test() -> None:
    a, b = bare(cell(0.6, seeds=1)), bare(cell(0.5, seeds=1, noise=9))
    difference = score_difference(a, b)
    t_test = stats.ttest_rel(right(a)[0], right(b)[0])
    assert difference.p == pytest.approx(t_test.pvalue, rel=1e-9)
    ends = t_test.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((ends.low, ends.high))


def test_without_rows_it_is_welchs_test() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        a, b = rng.normal(0.7, 0.05, 4), rng.normal(0.65, 0.02, 3)
        parts = ((0.0, 99.0), (a.var(ddof=1) / 4, 3.0), (b.var(ddof=1) / 3, 2.0))
        welch = stats.ttest_ind(a, b, equal_var=False)
        estimate = Estimate(a.mean() - b.mean(), sum(v for v, _ in parts), parts)
        assert estimate.p_value() == pytest.approx(welch.pvalue, rel=1e-9)
        assert estimate.half_width(welch.pvalue) == pytest.approx(abs(estimate.value))


def test_one_split_is_quasi_f() -> None:
    qualities = {"a": 0.6, "b": 0.5, "c": 0.55, "d": 0.4}
    cells = {name: bare(cell(q, noise=int(100 * q))) for name, q in qualities.items()}
    pooled = pool_runs(cells)
    runs = {name: right(score).mean(axis=1).var(ddof=1) for name, score in cells.items()}
    assert pooled == RunScatter(pytest.approx(np.mean([*runs.values()])), 8)
    a, b = right(cells["a"]), right(cells["b"])

    def noise(x: np.ndarray) -> float:
        rest = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
        return float((rest**2).sum() / (2 * 199) / (3 * 200))

    rows = (a.mean(axis=0) - b.mean(axis=0)).var(ddof=1) / 200
    parts = [max(rows - noise(a) - noise(b), rows / 4)]
    parts += [max(runs[name], pooled.variance) / 3 for name in "ab"]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 199 + parts[1] ** 2 / 4 + parts[2] ** 2 / 4)
    t = (a.mean() - b.mean()) / sum(parts) ** 0.5
    estimate = estimate_variances(cells["a"], cells["b"], pooled)
    assert estimate.p_value() == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)
    assert pool_runs({name: cells[name] for name in "ab"}) is None


@pytest.mark.parametrize("passes", [1, 3])
def test_cross_validation_adds_what_methods_differ_by_between_folds(passes: int) -> None:
    cells = {name: bare(crossed(0.5 + 0.03 * i, 7 * i, passes)) for i, name in enumerate("abcd")}
    pooled = pool_runs(cells, {"d"})
    assert pooled is not None and pooled.degrees == 2 * 4 * passes
    folds = {name: score.fold_scores for name, score in cells.items()}
    pairs = [
        (folds[x] - folds[y]).var(axis=1, ddof=1).mean()
        for x, y in itertools.combinations("abc", 2)
    ]
    assert pooled.variance == pytest.approx(np.mean(pairs))
    difference = right(cells["a"]) - right(cells["b"])
    rows = difference.mean(axis=0).var(ddof=1) / 200
    interaction = pooled.variance / (FOLDS * passes)
    excess = max(interaction - difference.var(axis=1, ddof=1).mean() / 200 / passes, 0)
    variance = ROW_FACTOR * rows + excess
    error = (ROW_FACTOR * rows) ** 2 / 199 + (interaction**2 / pooled.degrees if excess else 0)
    t = difference.mean() / variance**0.5
    estimate = estimate_variances(cells["a"], cells["b"], pooled)
    assert estimate.variance == pytest.approx(variance)
    assert estimate.p_value() == pytest.approx(
        2 * stats.t.sf(abs(t), variance**2 / error), rel=1e-9
    )
    assert pool_runs(cells, {"c", "d"}) is None


def test_p_and_interval_say_the_same() -> None:
    a = cell(0.8)
    for b in (cell(0.7), cell(0.75, noise=30), cell(0.79, noise=60)):
        difference = score_difference(a, b)
        assert (difference.p < 0.05) == (difference.low > 0 or difference.high < 0)


def test_what_says_nothing_proves_nothing() -> None:
    same = cell(0.8)
    difference = score_difference(same, same)
    assert (difference.estimate, difference.p) == (0, 1) and difference.high > 0
    label = [0]
    a, b = (score_runs([fake.predictions(label, [answer])], "accuracy") for answer in (0, 1))
    difference = score_difference(a, b)
    assert (difference.low, difference.high) == (-1, 1) and difference.p == 1


def test_folds_that_are_absent_are_no_runs() -> None:
    whole = crossed(0.7, 1, metric="macro_f1")
    assert (whole.run_degrees, whole.runs) == (4, 5)
    kept = [i for i in range(200) if whole.folds[0, i] != 2]
    part = whole.restrict({whole.uid[i] for i in kept})
    assert (part.run_degrees, part.runs, len(part.uid)) == (3, 4, 160)
    a, b = on_common_rows(whole, part)
    assert a.uid == b.uid and a.estimate == pytest.approx(b.estimate)


def test_cross_validated_cells_are_compared_on_the_rows_that_both_answered() -> None:
    a, b = crossed(0.8, 1, rows=range(40, 200)), crossed(0.7, 2, rows=range(160))
    difference = score_difference(a, b)
    assert difference.n_examples == 120
    both = slice(40, 160)
    gap = right(crossed(0.8, 1))[0, both].mean() - right(crossed(0.7, 2))[0, both].mean()
    assert difference.estimate == pytest.approx(gap)
    with pytest.raises(StoreError):
        score_difference(a, crossed(0.7, 2, rows=range(40)))
    with pytest.raises(StoreError, match="different examples"):
        score_difference(cell(0.8), cell(0.7, n=100))
