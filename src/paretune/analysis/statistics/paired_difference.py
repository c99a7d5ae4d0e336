"""The difference of two cells' scores: paired on examples, with seeds on both sides."""

from __future__ import annotations

from paretune.analysis.statistics.bootstrap_score import (
    BootstrapScore,
    bootstrap_variance,
    check_paired,
)
from paretune.analysis.statistics.score_interval import Interval, student_interval


def student_difference(a: BootstrapScore, b: BootstrapScore) -> Interval:
    """Score of ``a`` minus score of ``b``: Student's 95 % interval and p-value (Welch).

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.
    """
    widest = a.highest - a.lowest
    variance = shared_example_variance(a, b)
    return student_interval(a.estimate - b.estimate, [a, b], variance, (-widest, widest))


def shared_example_variance(a: BootstrapScore, b: BootstrapScore) -> float:
    """The part of the difference's variance that comes from the examples both answered.

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.
    """
    check_paired(a, b)
    bootstrapped = bootstrap_variance(a, a.draws - b.draws)
    if a.credit is None or b.credit is None:
        return bootstrapped
    delta = a.credit - b.credit
    n = len(delta)
    # Two imaginary pairs, half of one won and half of one lost (Agresti and Min 2005): equal
    # answers to eight examples do not prove two methods equal.
    mean = delta.sum() / (n + 2)
    squares = ((delta - mean) ** 2).sum() + 0.5 * (1 - mean) ** 2 + 0.5 * (1 + mean) ** 2 + mean**2
    return max(bootstrapped, float(squares) / (n + 2) ** 2)
