"""The same numbers by other people's code: statsmodels and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables, multitest, power
from support.fake_records import predictions

from paretune.analysis.outcomes import FailureRate
from paretune.analysis.pairs import mcnemar_test
from paretune.analysis.statistics.differences import estimate_variances
from paretune.analysis.statistics.multiple_testing import holm_correction
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.analysis.statistics.scores import RunScores, score_runs


def of(right: np.ndarray) -> RunScores:
    return score_runs([predictions([0] * len(right), (~right).astype(int))], "accuracy")


def test_holm() -> None:
    p = [0.001, 0.012, 0.020, 0.021, 0.300, 0.049, 0.0499]
    assert holm_correction(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert holm_correction([]) == []


@pytest.mark.parametrize(("only_a", "only_b", "agreed"), [(9, 1, 50), (14, 20, 66), (0, 0, 40)])
def test_mcnemar(only_a: int, only_b: int, agreed: int) -> None:
    place = np.arange(only_a + only_b + agreed)
    a, b = (place < only_a) | (place >= only_a + only_b), place >= only_a
    result = mcnemar_test(of(a), of(b))
    assert result is not None and (result.only_a, result.only_b) == (only_a, only_b)
    table = [[agreed, only_a], [only_b, 0]]
    assert result.p == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)


@pytest.mark.parametrize(("failed", "runs"), [(0, 3), (1, 5), (3, 3), (2, 20)])
def test_limits_of_failures(failed: int, runs: int) -> None:
    rate = FailureRate(failed, runs)
    low, high = (
        getattr(stats.binomtest(failed, runs, alternative=side).proportion_ci(0.95), end)
        for side, end in (("greater", "low"), ("less", "high"))
    )
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("deviation", "level"), [(0.4, 0.05), (0.5, 0.05), (0.4, 0.01)])
def test_sample_sizes_of_the_paired_t_test(deviation: float, level: float) -> None:
    """One run each that draws nothing, on rows of which so many are won and lost."""
    place, differing = np.arange(400), round(400 * deviation**2)
    a, b = of(place >= differing // 2), of((place < differing // 2) | (place >= differing))
    size = estimate_sample_size(estimate_variances(a, b), a, b, level)
    pairs = power.TTestPower().solve_power(0.05 / deviation, power=0.8, alpha=level)
    assert size.low == size.high == pytest.approx(pairs, rel=0.03)
