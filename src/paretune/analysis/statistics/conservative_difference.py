"""The difference of two cells when many pairs are compared and seeds are few (Banerjee).

The Welch-Satterthwaite degrees of freedom (:mod:`paretune.analysis.statistics.paired_difference`)
are right on average. With two or three seeds, though, the seeds of a cell sometimes agree by
chance. Then their variance vanishes, the degrees of freedom become those of the many examples, and
the p-value becomes tiny. At 0.05 that hardly matters; at the strict levels of many comparisons it
does: with eight methods of two seeds, up to 26 % of simulated studies claimed a difference that did
not exist (docs/statistics.md). So here each part keeps its own quantile (Banerjee 1960, "On
confidence interval for two-means problem based on separate estimates of variances")::

    half^2 = t_seeds^2 (s_a^2 / S_a + s_b^2 / S_b) + t_examples^2 v_examples

which holds its level for any ratio of the variances. ``t_seeds`` has Welch's degrees of freedom of
the two seed variances alone, ``t_examples`` one less than the number of examples (or clusters).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy import special

from paretune.analysis.statistics.bootstrap_score import BootstrapScore
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.paired_difference import (
    shared_example_variance,
    student_difference,
)
from paretune.analysis.statistics.score_interval import Interval

VarianceTerm = tuple[float, float]
"""A variance and its degrees of freedom."""

_SMALLEST_P = 1e-12


def conservative_difference(a: BootstrapScore, b: BootstrapScore) -> Interval:
    """Score of ``a`` minus score of ``b``: 95 % interval and p-value by the rule above.

    Raises:
        StoreError: ``a`` and ``b`` answered different examples.
    """
    student = student_difference(a, b)
    if a.units < 2:
        return student
    seeds = [(c.seed_variance, len(c.seeds) - 1.0) for c in (a, b) if len(c.seeds) > 1]
    examples = (shared_example_variance(a, b), a.units - 1.0)
    half = smallest_clear_difference(seeds, examples, ALPHA)
    widest = a.highest - a.lowest
    return replace(
        student,
        low=max(-widest, student.estimate - half),
        high=min(widest, student.estimate + half),
        p=_p_value(abs(student.estimate), seeds, examples),
    )


def smallest_clear_difference(
    seeds: Sequence[VarianceTerm], examples: VarianceTerm, level: float
) -> float:
    """The smallest difference that is clear at a two-sided ``level``."""
    variance = sum(v for v, _ in seeds)
    squared = _quantile(examples[1], level) ** 2 * examples[0]
    if variance > 0:
        freedom = variance**2 / sum(v**2 / df for v, df in seeds)
        squared += _quantile(freedom, level) ** 2 * variance
    return math.sqrt(squared)


def _p_value(gap: float, seeds: Sequence[VarianceTerm], examples: VarianceTerm) -> float:
    """The level at which ``gap`` would just be clear, by bisection of its logarithm."""
    if sum(v for v, _ in seeds) + examples[0] <= 0:
        return float(gap == 0)
    if gap <= 0:
        return 1.0
    low, high = math.log(_SMALLEST_P), 0.0
    for _ in range(32):
        middle = (low + high) / 2
        if smallest_clear_difference(seeds, examples, math.exp(middle)) < gap:
            high = middle
        else:
            low = middle
    return math.exp(high)


def _quantile(freedom: float, level: float) -> float:
    return float(special.stdtrit(freedom, 1 - level / 2))
