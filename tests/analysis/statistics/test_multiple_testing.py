from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats
from support import fake_records as fake

from paretune.analysis.comparisons import Verdict
from paretune.analysis.pairs import Pair
from paretune.analysis.statistics.differences import estimate_variances
from paretune.analysis.statistics.intervals import difference_interval
from paretune.analysis.statistics.multiple_testing import (
    all_pairs_correction,
    dunnett_correction,
    holm_correction,
    rows_correction,
)
from paretune.analysis.statistics.scores import score_runs


def test_of_all_pairs_only_what_can_be_equal_at_once_is_counted() -> None:
    """Shaffer (1986), table for four groups: 6, then 3, 3, 3, 2, 1 instead of 6, 5, 4, 3, 2, 1."""
    p = [0.001 * 1.1**i for i in range(6)]
    expected = np.maximum.accumulate(np.array(p) * [6, 3, 3, 3, 2, 1])
    assert all_pairs_correction(p, 4) == pytest.approx(list(expected))
    rng = np.random.default_rng(1)
    for members in range(2, 9):
        p = list(rng.random(members * (members - 1) // 2) ** 3)
        shaffer, holm = all_pairs_correction(p, members), holm_correction(p)
        assert all(a <= b + 1e-12 for a, b in zip(shaffer, holm, strict=True))
        assert min(shaffer) == min(holm)
    # Pairs that could not be formed count for nothing.
    assert all_pairs_correction([0.01, 0.02], 3) == pytest.approx([0.02, 0.02])


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_comparisons_with_one_reference_are_corrected_as_the_largest_of_normal_variables(
    correlation: float,
) -> None:
    p = [0.02, 0.004, 0.6, 0.03]
    matrix = np.full((4, 4), correlation) + (1 - correlation) * np.eye(4)
    expected, order = np.empty(4), np.argsort(p)
    for step, place in enumerate(order):
        left = order[step:]
        below = stats.multivariate_normal(cov=matrix[np.ix_(left, left)])
        expected[place] = 1 - below.cdf(np.full(len(left), special.ndtri(1 - p[place])))
    expected[order] = np.maximum.accumulate(expected[order])
    corrected = dunnett_correction(p, matrix)
    assert corrected == pytest.approx(expected, abs=0.006)
    assert all(c <= h for c, h in zip(corrected, holm_correction(p), strict=True))
    assert dunnett_correction([0.03], np.eye(1)) == [0.03]


def test_correlations_that_do_not_fit_together_are_lowered() -> None:
    impossible = np.array([[1, 0.9, 0.9], [0.9, 1, -0.9], [0.9, -0.9, 1]])
    corrected = dunnett_correction([0.01, 0.02, 0.03], impossible)
    assert all(p <= c <= 3 * p for p, c in zip([0.01, 0.02, 0.03], corrected, strict=True))


def above_baselines(cell, baselines, missing=()) -> Verdict:
    pairs = []
    for name, baseline in baselines.items():
        estimate = estimate_variances(cell, baseline)
        gap = difference_interval(estimate, cell, baseline)
        pairs.append(Pair("lora", name, gap, estimate, gap.p))
    return Verdict(tuple(pairs), tuple(missing))


def test_verdicts_in_words() -> None:
    def parts(quality: float, seeds: int = 3):
        return score_runs([fake.answers(quality, n=200, seed=s) for s in range(seeds)], "accuracy")

    low, middle = score_runs([fake.constant(200)], "accuracy"), parts(0.55, 1)
    above = above_baselines(parts(0.85), {"majority": low, "tfidf": middle})
    assert above.standing == "above"
    assert above.above_all
    assert above.summary == "better than every baseline"
    failing = replace(above, of_trained=True)
    assert failing.summary == "better than every baseline, of runs that trained"
    unclear = above_baselines(parts(0.56), {"majority": low, "tfidf": middle})
    assert unclear.standing == "unclear"
    assert "TF-IDF" in unclear.summary
    assert unclear.summary.startswith("undecided against")
    below = above_baselines(parts(0.2), {"majority": low, "tfidf": middle})
    assert below.summary == "worse than constant answer, TF-IDF"
    partial = above_baselines(parts(0.85), {"majority": low}, missing=["tfidf"])
    assert not partial.above_all
    assert partial.summary == "better than constant answer (no score of TF-IDF)"
    assert above_baselines(parts(0.85), {}).summary == "no baseline has a score yet"


def test_a_row_that_is_claimed_whole_counts_once() -> None:
    rows = {
        "lora": {"majority": 1e-9, "tfidf": 1e-4, "head_only": 0.02},
        "full": {"majority": 1e-9, "tfidf": 1e-9, "head_only": 0.001},
        "loha": {"majority": 1e-4, "tfidf": 0.3, "head_only": 0.04},
    }
    corrected = rows_correction({r: {(r, b): p for b, p in row.items()} for r, row in rows.items()})
    # The hardest baseline is not multiplied within its row, and the best row is counted first.
    assert corrected[("full", "head_only")] == pytest.approx(3 * 0.001)
    assert corrected[("lora", "head_only")] == pytest.approx(2 * 0.02)
    assert corrected[("loha", "tfidf")] == pytest.approx(0.3)
    assert corrected[("loha", "head_only")] == pytest.approx(2 * 0.04)
    # A part of the worst row waits for no other row: three baselines within it, three rows.
    assert corrected[("loha", "majority")] == pytest.approx(3 * 3 * 1e-4)
