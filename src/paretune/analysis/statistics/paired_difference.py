"""The difference of two cells: paired on examples, seeds on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paretune.analysis.statistics.score_interval import (
    BootstrapScore,
    Interval,
    bootstrap_score,
    bootstrap_variance,
    check_paired,
    student_interval,
)
from paretune.store.record import Predictions
from paretune.study import Metric

ALPHA = 0.05


def difference(a: Sequence[Predictions], b: Sequence[Predictions], metric: Metric) -> Interval:
    """Score of ``a`` less score of ``b``, each one :class:`Predictions` per seed; 95 %.

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.

    """
    return student_difference(bootstrap_score(a, metric), bootstrap_score(b, metric))


def student_difference(a: BootstrapScore, b: BootstrapScore) -> Interval:
    """:func:`difference` of cells that are scored already."""
    v_examples = shared_variance(a, b)
    widest = a.highest - a.lowest
    return student_interval(a.estimate - b.estimate, [a, b], v_examples, (-widest, widest))


def shared_variance(a: BootstrapScore, b: BootstrapScore) -> float:
    """The part of the difference's variance that comes from the examples that both answered.

    Raises:
        StoreError: they answered different examples.

    """
    check_paired(a, b)
    v_examples = bootstrap_variance(a, a.draws - b.draws)
    if a.credit is None or b.credit is None:
        return v_examples
    delta = a.credit - b.credit
    n = len(delta)
    # Two imagined pairs, half of one won and half of one lost (Agresti and Min 2005): equal
    # answers on eight examples do not prove two methods equal.
    mean = delta.sum() / (n + 2)
    squares = ((delta - mean) ** 2).sum() + 0.5 * (1 - mean) ** 2 + 0.5 * (1 + mean) ** 2 + mean**2
    return max(v_examples, float(squares) / (n + 2) ** 2)


def holm_correction(p: Sequence[float]) -> list[float]:
    """P-values that hold for the whole family (Holm 1979)."""
    order = np.argsort(p)
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]
