"""Estimates how many test examples, or cross-validated rows, would decide a pair: a range.

The size is what finds a true difference of 5 points in 80 % of studies, with the variances as they
were estimated (:mod:`paretune.analysis.statistics.differences`). It is not the size for the
observed difference: a difference that is noticed is too large on average, and its size finds the
true one in as few as half of the studies. With g times the rows, and the same runs, the variance
is::

    V(g) = rows' variance / g + what runs add

and it is enough where ``(t(1 - level / 2) + t(0.8)) sqrt(V)`` is at most 5 points. The part of runs
is known to within its standard error only, so the number is a range: with the estimate, which is
often near nothing beside the rows, and with its mean given that it is not negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from paretune.analysis.statistics.differences import ROW_FACTOR, Estimate, row_variance
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import RunScores

POWER = 0.8
FOUND_POINTS = 5.0
"""The true difference to find, in hundredths of the metric's highest value."""


@dataclass(frozen=True)
class SampleSize:
    """The number of rows that would decide a pair, with the same runs or folds.

    Attributes:
        rows_now: number of test examples, or labelled rows under cross-validation, of the pair.
        low: number that is enough if runs scatter as observed; None where no number is.
        high: number that is enough if they scatter as expected; None where no number is.
        blind: whether there is one run, or too few folds: how much runs differ is unknown.
        cross_validated: whether rows are labelled ones that are cross-validated.
    """

    rows_now: int
    low: int | None
    high: int | None
    blind: bool = False
    cross_validated: bool = False

    @property
    def would_detect(self) -> bool:
        """Whether the present rows are enough."""
        return self.high is not None and self.high <= self.rows_now and not self.blind


def estimate_sample_size(
    estimate: Estimate, a: RunScores, b: RunScores, level: float = ALPHA, *, blind: bool = False
) -> SampleSize:
    """Estimate the rows that would decide ``a`` against ``b``, if they differ by 5 points.

    Args:
        estimate: ``a`` minus ``b`` with its variance, as judged.
        a: score of one side.
        b: score of the other side, on the same rows.
        level: level of the two-sided test; smaller where it is one of several.
        blind: whether it is unknown how much runs differ.
    """
    crossed, gap = a.design.is_cross_validation, FOUND_POINTS * a.highest / 100
    of_rows = row_variance(a, b) * estimate.row_ratio * (ROW_FACTOR if crossed else 1.0)
    of_rows = min(max(of_rows, estimate.parts[0][0]), estimate.variance)
    added = estimate.variance - of_rows
    runs = estimate.parts[1:]
    error = math.sqrt(2 * sum(variance**2 / degrees for variance, degrees in runs if degrees > 0))
    expected = added
    if error > 0:
        # Under cross-validation the parts of runs include rows, and may be less than these.
        signed = sum(v for v, _ in runs) - of_rows / ROW_FACTOR if crossed else added
        z = signed / error
        density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        expected = (signed + error * density / float(special.ndtr(z))) if z > -5 else added

    def count_rows(scattered: float) -> int | None:
        if estimate.freedom <= 0:  # one independent row is no evidence on other rows
            return None
        quantiles = special.stdtrit(estimate.freedom, [1 - level / 2, POWER])
        enough = (gap / float(quantiles.sum())) ** 2
        if not of_rows < math.inf or enough <= scattered:
            return None
        return math.ceil(len(a.uid) * of_rows / (enough - scattered))

    return SampleSize(
        rows_now=len(a.uid),
        low=count_rows(added),
        high=count_rows(max(added, expected)),
        blind=blind,
        cross_validated=crossed,
    )
