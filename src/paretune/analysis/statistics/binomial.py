"""Shares of right answers where only the share is known: one score from n examples, one seed.

Without the answers themselves nothing can be paired and no seed can be told from another: the
intervals speak of test examples only. Two experiments that answered the same examples are compared
as if they had answered different ones, which finds fewer differences, not more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from scipy import special

from paretune.analysis.statistics.score_interval import LEVEL, Interval

_Z = float(special.ndtri(0.5 + LEVEL / 2))
_LARGEST = 100_000


def wilson_interval(right: int, n: int) -> Interval:
    """The share of right answers with its 95 % score interval (Wilson 1927).

    Args:
        right: right answers, 0 to ``n``.
        n: test examples, at least 1.

    Raises:
        ValueError: ``right`` is not among 0 ... ``n``, or there is no example.
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"{right} right answers of {n} examples")
    p, z2 = right / n, _Z**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the interval ends there, and not a rounding beside it.
    low = 0.0 if right == 0 else middle - half
    high = 1.0 if right == n else middle + half
    return Interval(p, low, high, n_examples=n, n_seeds=1, share_seeds=0.0)


def newcombe_difference(a: int, n: int, b: int, m: int) -> Interval:
    """Share of ``a`` right answers of ``n`` less that of ``b`` of ``m``; 95 %, unpaired.

    The interval is Newcombe's (1998, method 10), from both Wilson intervals; ``p`` is two-sided, of
    the score test with the pooled share.
    """
    one, other = wilson_interval(a, n), wilson_interval(b, m)
    difference = one.estimate - other.estimate
    down = math.hypot(one.estimate - one.low, other.high - other.estimate)
    up = math.hypot(one.high - one.estimate, other.estimate - other.low)
    pooled = (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    p = 1.0 if error == 0 else float(special.erfc(abs(difference) / error / math.sqrt(2)))
    return Interval(difference, difference - down, difference + up, min(n, m), 1, 0.0, p)


def correct_count(share: float, n: int) -> int | None:
    """How many right answers of ``n`` a share is; None where that is no whole number."""
    right = round(share * n)
    return right if abs(right / n - share) < 1e-9 and 0 <= right <= n else None


def smallest_example_count(shares: Sequence[float]) -> int | None:
    """The least number of examples of which every share is a whole part; None beyond 100,000.

    The real number is this or a multiple of it, so it can support what somebody says and cannot
    replace it.
    """
    least = 1
    for share in shares:
        part = Fraction(share).limit_denominator(_LARGEST)
        if abs(float(part) - share) > 1e-12:
            return None
        least = math.lcm(least, part.denominator)
        if least > _LARGEST:
            return None
    return least
