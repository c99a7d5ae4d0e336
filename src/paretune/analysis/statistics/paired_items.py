"""The difference of two answers to the same items, one run each.

The rule is that of :mod:`paretune.analysis.statistics.score_difference` without seeds: Student's
interval of the mean difference over the items, and between shares of right answers (scores from 0
to 1) a variance that is at least what two imaginary items, one won and one lost, would leave
(Agresti and Min 2005).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.sample_size import FOUND_POINTS, MAX_COUNT, POWER
from paretune.analysis.statistics.score_difference import DifferenceTerms, credit_variance
from paretune.analysis.statistics.score_interval import Interval
from paretune.metrics import Array


def mean_interval(scores: Array) -> Interval:
    """The mean score with its 95 % interval over items; (items,).

    Scores from 0 to 1 get four imaginary items, two right and two wrong (Agresti and Coull 1998).
    """
    n = len(scores)
    estimate = float(scores.mean())
    variance = float(scores.var(ddof=1)) / n if n > 1 else math.inf
    if _are_shares(scores):
        padded = np.concatenate([scores, [0.0, 0.0, 1.0, 1.0]])
        variance = max(variance, float(padded.var()) / len(padded)) if n > 1 else math.inf
    half = DifferenceTerms(estimate, (), (variance, n - 1.0)).half_width(ALPHA)
    low, high = (0.0, 1.0) if _are_shares(scores) else (-math.inf, math.inf)
    return Interval(
        estimate=estimate,
        low=max(low, estimate - half),
        high=min(high, estimate + half),
        n_examples=n,
        n_seeds=1,
        share_seeds=0.0,
    )


def paired_difference(a: Array, b: Array) -> Interval:
    """Mean of ``a`` minus mean of ``b`` on the same items, with 95 % interval and p; (items,)."""
    terms = _difference_terms(a, b)
    half = terms.half_width(ALPHA)
    low, high = (-1.0, 1.0) if _are_shares(a, b) else (-math.inf, math.inf)
    return Interval(
        estimate=terms.estimate,
        low=max(low, terms.estimate - half),
        high=min(high, terms.estimate + half),
        n_examples=len(a),
        n_seeds=1,
        share_seeds=0.0,
        p=terms.p_value(),
    )


def estimate_items(a: Array, b: Array, level: float = ALPHA) -> int | None:
    """Items that find a true difference of 5 points in 80 % of evaluations; None: over 10 million.

    Args:
        level: of the two-sided test; smaller where it is one of several.
    """
    n = len(a)
    variance = _difference_terms(a, b).examples[0] * n
    gap, z = FOUND_POINTS / 100, float(special.ndtri(POWER))
    low, high = 2, 4

    def decides(items: int) -> bool:
        t = float(special.stdtrit(items - 1, 1 - level / 2))
        return gap >= (t + z) * math.sqrt(variance / items)

    while not decides(high):
        if high > MAX_COUNT:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def _difference_terms(a: Array, b: Array) -> DifferenceTerms:
    delta = a - b
    n = len(delta)
    variance = float(delta.var(ddof=1)) / n if n > 1 else math.inf
    if _are_shares(a, b) and n > 1:
        variance = max(variance, credit_variance(delta, 1.0))
    return DifferenceTerms(float(delta.mean()), (), (variance, n - 1.0))


def _are_shares(*scores: Array) -> bool:
    return all(bool(((one >= 0) & (one <= 1)).all()) for one in scores)
