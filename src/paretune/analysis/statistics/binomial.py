"""Intervals of accuracies of which only the share is known: one score of n examples, one seed.

Without the answers nothing can be paired, and the variance over seeds is unknown: the intervals
cover test examples only. Two experiments on the same examples are compared as if they had answered
different ones, which finds fewer differences, not more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from scipy import special

from paretune.analysis.statistics.score_interval import LEVEL, Interval

_Z = float(special.ndtri(0.5 + LEVEL / 2))
_MAX_EXAMPLES = 100_000


def wilson_interval(correct: int, n: int) -> Interval:
    """The accuracy with its 95 % score interval (Wilson 1927).

    Args:
        correct: correct answers, 0 to ``n``.
        n: test examples, at least 1.

    Raises:
        ValueError: ``correct`` is not in 0 ... ``n``, or there is no example.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} correct answers of {n} examples")
    p, z2 = correct / n, _Z**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # Exact at the ends, where rounding would leave a little.
    low = 0.0 if correct == 0 else middle - half
    high = 1.0 if correct == n else middle + half
    return Interval(p, low, high, n_examples=n, n_seeds=1, share_seeds=0.0)


def newcombe_difference(a: int, n: int, b: int, m: int) -> Interval:
    """Accuracy ``a`` of ``n`` minus accuracy ``b`` of ``m``; 95 %, unpaired.

    The interval is Newcombe's (1998, method 10), from both Wilson intervals; ``p`` is that of
    :func:`score_test`.
    """
    one, other = wilson_interval(a, n), wilson_interval(b, m)
    difference = one.estimate - other.estimate
    down = math.hypot(one.estimate - one.low, other.high - other.estimate)
    up = math.hypot(one.high - one.estimate, other.estimate - other.low)
    p = score_test(a, n, b, m)
    return Interval(difference, difference - down, difference + up, min(n, m), 1, 0.0, p)


def score_test(a: int, n: int, b: int, m: int, seed_deviation: float = 0.0) -> float:
    """Two-sided p-value of two shares, with the pooled share.

    Args:
        a: correct answers of one side.
        n: its examples.
        b: correct answers of the other.
        m: its examples.
        seed_deviation: standard deviation of the share over seeds, assumed for both sides.
    """
    pooled = (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m) + 2 * seed_deviation**2)
    gap = abs(a / n - b / m)
    return 1.0 if error == 0 else float(special.erfc(gap / error / math.sqrt(2)))


def correct_count(share: float, n: int) -> int | None:
    """The number of correct answers of ``n`` that give ``share``; None if it is not whole."""
    correct = round(share * n)
    return correct if abs(correct / n - share) < 1e-9 and 0 <= correct <= n else None


def smallest_example_count(shares: Sequence[float]) -> int | None:
    """The least n such that every share is a whole number of n examples; None above 100,000.

    The true n is this or a multiple of it: it can confirm a stated n, not replace it.
    """
    least = 1
    for share in shares:
        fraction = Fraction(share).limit_denominator(_MAX_EXAMPLES)
        if abs(float(fraction) - share) > 1e-12:
            return None
        least = math.lcm(least, fraction.denominator)
        if least > _MAX_EXAMPLES:
            return None
    return least
