import numpy as np
import pytest
from scipy import stats

from paretune.analysis.statistics.intervals import (
    correct_count,
    newcombe_difference,
    smallest_example_count,
    wilson_interval,
)


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


def test_the_interval_of_a_difference_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    for one, other in ((0.5, 0.45), (0.95, 0.9)):
        differences = [
            newcombe_difference(int(a), 100, int(b), 100)
            for a, b in zip(rng.binomial(100, one, 800), rng.binomial(100, other, 800), strict=True)
        ]
        coverage = np.mean([f.low <= one - other <= f.high for f in differences])
        assert 0.93 <= coverage <= 0.98


def test_how_many_examples_a_share_can_be_of() -> None:
    assert correct_count(0.48218347232752085, 1319) == 636
    assert correct_count(0.48218347232752085, 1000) is None
    assert correct_count(0.5, 7) is None
    assert smallest_example_count([0.48218347232752085, 0.5003790750568613]) == 1319
    assert smallest_example_count([0.5, 0.25, 1.0]) == 4
    assert smallest_example_count([0.1234567890123456]) is None
    with pytest.raises(ValueError, match="5 correct answers of 4"):
        wilson_interval(5, 4)
