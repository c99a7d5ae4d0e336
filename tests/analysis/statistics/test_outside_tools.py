"""The same numbers by other people's code: SciPy here, statsmodels 0.15.0 as numbers written down.

statsmodels is no dependency; its numbers are of ``multipletests``, ``mcnemar(exact=True)``,
``ttest_ind(usevar="unequal")``, ``DescrStatsW.ttest_mean`` and ``tconfint_mean`` on what stands
here.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from paretune.analysis.pairs import mcnemar_test
from paretune.analysis.statistics.differences import DifferenceTerms, score_difference
from paretune.analysis.statistics.intervals import confidence_interval
from paretune.analysis.statistics.multiple_testing import holm_correction
from paretune.analysis.statistics.scores import BootstrapScore, bootstrap_score
from paretune.store.record import Predictions

PLACE = np.arange(120)
FIRST, SECOND = PLACE * 7 % 10 < 8, PLACE * 3 % 10 < 6  # who answers which example rightly


def of(*right: np.ndarray) -> BootstrapScore:
    n = len(right[0])
    parts = [
        Predictions(tuple(map(str, range(n))), (0,) * n, tuple((~one).astype(int).tolist()), ())
        for one in right
    ]
    return bootstrap_score(parts, "accuracy")


def both(only_a: int, only_b: int, agreed: int) -> tuple[BootstrapScore, BootstrapScore]:
    """Two runs of which each alone is right so often."""
    n = only_a + only_b + agreed
    place = np.arange(n)
    return of((place < only_a) | (place >= only_a + only_b)), of(place >= only_a)


def test_holm_is_that_of_statsmodels() -> None:
    p = [0.001, 0.012, 0.020, 0.021, 0.300, 0.049, 0.0499]
    assert holm_correction(p) == pytest.approx([0.007, 0.072, 0.1, 0.1, 0.3, 0.147, 0.147])


def test_mcnemar_is_that_of_statsmodels() -> None:
    for counts, p in (((9, 1, 50), 0.021484375), ((14, 20, 66), 0.39152830513194203)):
        result = mcnemar_test(*both(*counts))
        assert result is not None
        assert (result.only_a, result.only_b) == counts[:2]
        assert result.p == pytest.approx(p, rel=1e-12)


def test_the_part_of_seeds_is_welchs_test_of_statsmodels() -> None:
    a, b = np.array([0.71, 0.74, 0.69, 0.73, 0.72]), np.array([0.66, 0.70, 0.61])
    seeds = ((a.var(ddof=1) / 5, 4.0), (b.var(ddof=1) / 3, 2.0))
    terms = DifferenceTerms(float(a.mean() - b.mean()), seeds, (0.0, 1.0))
    assert terms.p_value() == pytest.approx(0.13124967871716298, rel=1e-6)


def test_the_part_of_examples_is_the_paired_t_test_of_statsmodels() -> None:
    difference = score_difference(of(FIRST), of(SECOND))
    assert difference.estimate == pytest.approx(0.2)
    # Ours comes from 2,000 draws, whose variance is known to about 3 %.
    assert difference.low == pytest.approx(0.06416626909871131, abs=0.006)
    assert difference.high == pytest.approx(0.3358337309012887, abs=0.006)
    assert difference.p == pytest.approx(0.004244998453917362, rel=0.3)


def test_scipys_permutations_agree_with_the_p_value() -> None:
    """Ties with what was seen counted half (mid-p): signs of so few pairs make coarse steps."""
    rng = np.random.default_rng(3)
    for chance in (0.55, 0.62, 0.70):
        a, b = rng.random(150) < chance, rng.random(150) < 0.55
        permutations = stats.permutation_test(
            (a.astype(float), b.astype(float)),
            lambda x, y: (x - y).mean(),
            permutation_type="samples",
            n_resamples=4000,
            rng=np.random.default_rng(4),
        )
        seen, drawn = abs(permutations.statistic), abs(permutations.null_distribution)
        ties = np.abs(drawn - seen) < 1e-9
        p_value = float((drawn[~ties] > seen).sum() + ties.sum() / 2) / len(drawn)
        assert score_difference(of(a), of(b)).p == pytest.approx(p_value, abs=0.015)


def test_scipys_bootstrap_agrees_with_the_intervals() -> None:
    def mean_difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray((x - y).mean(axis=axis))

    first, second = FIRST.astype(float), SECOND.astype(float)
    expected = stats.bootstrap(
        (first, second), mean_difference, paired=True, n_resamples=4000, vectorized=True,
        method="percentile", rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    difference = score_difference(of(FIRST), of(SECOND))
    assert (difference.low, difference.high) == pytest.approx(
        (expected.low, expected.high), abs=0.012
    )
    alone = stats.bootstrap(
        (first,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(6)
    ).confidence_interval
    score = confidence_interval(of(FIRST))
    assert (score.low, score.high) == pytest.approx((alone.low, alone.high), abs=0.012)
