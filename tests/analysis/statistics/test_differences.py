"""The two rules of a verdict beside textbook tests and beside the formulas written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from support import fake_records as fake

from paretune.analysis.design import TestDesign
from paretune.analysis.statistics.differences import (
    PRIOR_DEGREES,
    ROW_FACTOR,
    Estimate,
    RunScatter,
    estimate_variances,
    moderate_scatters,
    on_common_rows,
    row_variance,
)
from paretune.analysis.statistics.intervals import score_difference
from paretune.analysis.statistics.scores import RunScores, score_runs
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
    return replace(score, credits=None)


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


def test_one_split_is_quasi_f_with_moderated_variances() -> None:
    qualities = {"a": 0.6, "b": 0.5, "c": 0.55, "d": 0.4}
    cells = {name: bare(cell(q, noise=int(100 * q))) for name, q in qualities.items()}
    scatters = moderate_scatters(cells, cells)
    runs = {name: right(score).mean(axis=1).var(ddof=1) for name, score in cells.items()}
    prior, centre = PRIOR_DEGREES * 3 / 4, np.mean([*runs.values()])
    for name, variance in runs.items():
        moderated = (prior * centre + 2 * variance) / (prior + 2)
        assert scatters[name] == RunScatter(pytest.approx(moderated), prior + 2)
    a, b = right(cells["a"]), right(cells["b"])

    def noise(x: np.ndarray) -> float:
        rest = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
        return float((rest**2).sum() / (2 * 199) / (3 * 200))

    rows = (a.mean(axis=0) - b.mean(axis=0)).var(ddof=1) / 200
    parts = [max(rows - noise(a) - noise(b), rows / 4)]
    parts += [scatters[name].variance / 3 for name in "ab"]
    error = parts[0] ** 2 / 199 + (parts[1] ** 2 + parts[2] ** 2) / (prior + 2)
    t = (a.mean() - b.mean()) / sum(parts) ** 0.5
    estimate = estimate_variances(cells["a"], cells["b"], [scatters["a"], scatters["b"]])
    freedom = sum(parts) ** 2 / error
    assert estimate.p_value() == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)


@pytest.mark.parametrize("passes", [1, 3])
def test_cross_validation_fits_the_scatter_of_each_method_to_all_pairs(passes: int) -> None:
    """By the normal equations, where a pair weighs less the more its rows explain."""
    cells = {name: bare(crossed(0.5 + 0.03 * i, 7 * i, passes)) for i, name in enumerate("abcd")}
    scatters = moderate_scatters(cells, {})
    folds = {name: score.fold_scores for name, score in cells.items()}
    left, target = np.zeros((4, 4)), np.zeros(4)
    for x, y in itertools.combinations(range(4), 2):
        a, b = "abcd"[x], "abcd"[y]
        between = (folds[a] - folds[b]).var(axis=1, ddof=1).mean()
        of_rows = (right(cells[a]) - right(cells[b])).var(axis=1, ddof=1).mean() / 200 * FOLDS
        pair = np.isin(range(4), (x, y)).astype(float)
        left += np.outer(pair, pair) / of_rows**2
        target += pair * (between - of_rows) / of_rows**2
    for name, variance in zip("abcd", np.linalg.solve(left, target), strict=True):
        assert scatters[name].variance == pytest.approx(variance)
        assert scatters[name].degrees == 4 * passes * 3 / 4
    difference = right(cells["a"]) - right(cells["b"])
    # What passes share is that of one.
    shared = (ROW_FACTOR - 1) * difference.var(axis=1, ddof=1).mean() / 200
    rows = difference.mean(axis=0).var(ddof=1) / 200 + shared
    of_runs = [scatters[name].variance / (FOLDS * passes) for name in "ab"]
    variance = rows + max(sum(of_runs), 0)
    half = difference.var(axis=1, ddof=1).mean() / 200 / passes / 2
    error = sum(max(half + of_run, 0) ** 2 for of_run in of_runs) / scatters["a"].degrees
    estimate = estimate_variances(cells["a"], cells["b"], [scatters["a"], scatters["b"]])
    assert estimate.variance == pytest.approx(variance)
    assert estimate.freedom == pytest.approx(variance**2 / (rows**2 / 199 + error))


def shifted(score: RunScores, points: list[float]) -> RunScores:
    """With so many points more in each fold."""
    assert score.folds is not None
    added = np.array(points)[score.folds[0]][None, :, None]
    tables = np.concatenate([score.tables[..., :1] + added, score.tables[..., 1:]], axis=-1)
    return replace(score, tables=tables)


def test_an_unsteady_method_pays_for_its_folds_and_no_method_beside_it_does() -> None:
    steady = {name: bare(crossed(0.7, 7 * i)) for i, name in enumerate("abc")}
    unsteady = shifted(bare(crossed(0.7, 40)), [0.3, -0.3, 0.2, -0.2, 0.0])
    cells = {**steady, "d": unsteady}
    scatters = moderate_scatters(cells, cells)

    def error(x: str, y: str, scatters: dict[str, RunScatter]) -> float:
        return estimate_variances(cells[x], cells[y], [scatters[x], scatters[y]]).variance ** 0.5

    alone = moderate_scatters(steady, steady)
    mean_of_all = np.mean([scatter.variance for scatter in moderate_scatters(cells, {}).values()])
    pooled = {name: RunScatter(float(mean_of_all), 12) for name in cells}
    assert error("a", "d", scatters) > 1.2 * error("a", "d", pooled)
    assert error("a", "b", alone) < error("a", "b", scatters) < 0.8 * error("a", "b", pooled)


def test_folds_that_agree_by_chance_buy_no_degrees() -> None:
    """The rows alone would give 199 degrees of freedom."""
    a, b = bare(crossed(0.7, 1)), bare(crossed(0.7, 8))
    agreeing = [RunScatter(-1e-4, 3.0)] * 2
    estimate = estimate_variances(a, b, agreeing)
    assert estimate.run_share == 0 and estimate.freedom < 60


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
