"""Intervals of scores and of bare shares: their bounds, their coverage, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support import fake_records as fake

from paretune.analysis.statistics.intervals import (
    newcombe_difference,
    score_interval,
    wilson_interval,
)
from paretune.errors import StoreError
from paretune.metrics.classification import METRICS


def test_one_seed_is_close_to_agresti_coull() -> None:
    label = [0] * 200
    interval = score_interval([fake.predictions(label, [0] * 150 + [1] * 50)], "accuracy")
    assert interval.estimate == 0.75
    assert interval.high - interval.low == pytest.approx(
        2 * 1.97 * (0.75 * 0.25 / 200) ** 0.5, rel=0.05
    )
    assert interval.examples_only
    assert interval.share_seeds == 0
    assert (interval.n_examples, interval.n_seeds) == (200, 1)


def test_a_perfect_score_on_few_examples_is_not_certain() -> None:
    interval = score_interval([fake.predictions([0, 1] * 4, [0, 1] * 4)], "accuracy")
    assert interval.estimate == interval.high == 1
    assert 0.5 < interval.low < 0.85


def test_seeds_that_differ_widen_the_interval() -> None:
    steady = score_interval([fake.answers(0.7, seed=s) for s in (1, 1, 1)], "accuracy")
    label = fake.answers(0.7).label
    moody = [fake.predictions(label, label), fake.constant(), fake.answers(0.7, seed=1)]
    interval = score_interval(moody, "accuracy")
    assert steady.share_seeds < 1e-9
    assert interval.share_seeds > 0.5
    assert interval.high - interval.low > 2 * (steady.high - steady.low)


@pytest.mark.parametrize("metric", [*(metric.name for metric in METRICS[:4]), "f1a_em"])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_examples_stay_in_bounds(metric: str, n: int) -> None:
    part = fake.predictions([0] * n, [0] * n)
    interval = score_interval([part, part], metric)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert np.isfinite([interval.low, interval.high]).all()


def test_other_examples_are_refused() -> None:
    with pytest.raises(StoreError, match="different examples"):
        score_interval([fake.answers(0.6), fake.answers(0.6, part="other")], "accuracy")
    with pytest.raises(StoreError, match="no predictions"):
        score_interval([], "accuracy")


@pytest.mark.parametrize(("right", "n"), [(0, 8), (8, 8), (3, 10), (636, 1319), (1, 1)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    interval = wilson_interval(right, n)
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (interval.estimate, interval.n_examples, interval.n_seeds) == (right / n, n, 1)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_newcombes_own_example() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10.
    for a, n, b, m, low, high in (
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (10, 10, 0, 20, 0.6791, 1.0),
    ):
        difference = newcombe_difference(a, n, b, m)
        assert (difference.low, difference.high) == pytest.approx((low, high), abs=5e-5)
    difference, mirrored = newcombe_difference(60, 80, 40, 80), newcombe_difference(40, 80, 60, 80)
    assert (mirrored.low, mirrored.high) == pytest.approx((-difference.high, -difference.low))


@pytest.mark.parametrize(("a", "b", "n"), [(60, 40, 80), (636, 600, 1319), (5, 5, 9), (0, 0, 5)])
def test_p_is_the_chi_squared_tests(a: int, b: int, n: int) -> None:
    difference = newcombe_difference(a, n, b, n)
    if a == b:
        assert difference.p == 1.0
    else:
        table = [[a, n - a], [b, n - b]]
        assert difference.p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_more_correct_answers_than_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="5 correct answers of 4"):
        wilson_interval(5, 4)
