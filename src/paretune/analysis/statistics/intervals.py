"""Estimates with 95 % intervals: for the mean score of runs, and for bare shares.

Other runs and other test rows would give another score, so the variance of a score has two parts
(:func:`paretune.analysis.statistics.differences.estimate_variances`). Under one split the quantile
is the mean of both parts' Student quantiles, weighted by their variances
(:meth:`~paretune.analysis.statistics.differences.Estimate.weighted_half_width`)::

    half = (t(S - 1) v_runs + t(n - 1) v_rows) / sqrt(v_runs + v_rows)

Two or three seeds agree by chance now and then. With Satterthwaite's quantile such a score looks as
certain as its many rows: its interval held the true score in 89 % of simulated studies of two
seeds, not in 95; this interval holds it in 94 to 97 %. With one seed it is Student's interval of
the rows.

**Accuracies of which only the share is known**, of one seed: intervals cover test rows only.
Without the answers nothing can be paired: two experiments on the same rows are compared as if they
had answered different ones, which finds fewer differences, not more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import special

from paretune.analysis.design import SPLIT, TestDesign
from paretune.analysis.statistics.differences import (
    Estimate,
    estimate_variances,
    on_common_rows,
)
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import RunScores, score_runs
from paretune.store.record import Predictions


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        estimate: score, or difference of two scores.
        low: lower end of the interval.
        high: upper end of the interval.
        n_examples: number of test examples.
        n_seeds: number of seeds; the smaller number of two cells.
        share_seeds: share of the variance that comes from seeds; 0 with one seed, which leaves it
            unknown (:attr:`examples_only`).
        p: two-sided p-value against 0, for differences.
        n_clusters: number of clusters of examples; 0 for independent examples.
        n_questions: number of questions that the examples answer; 0 without questions.
        highest: highest value of the metric, which determines the number format.
        design: how the answers came about; under cross-validation ``n_seeds`` counts repeats.
    """

    estimate: float
    low: float
    high: float
    n_examples: int
    n_seeds: int
    share_seeds: float
    p: float = 0.0
    n_clusters: int = 0
    n_questions: int = 0
    highest: float = 1.0
    design: TestDesign = SPLIT

    @property
    def examples_only(self) -> bool:
        """Whether there is one seed, so that the variance over seeds is unknown."""
        return self.n_seeds == 1 and not self.design.is_cross_validation


def score_interval(predictions: Sequence[Predictions], metric: str) -> Interval:
    """Return the mean score over seeds (one :class:`Predictions` each) with its 95 % interval."""
    return confidence_interval(score_runs(predictions, metric))


def confidence_interval(score: RunScores) -> Interval:
    """Return the score with its 95 % interval."""
    estimate = estimate_variances(score)
    crossed = score.design.is_cross_validation
    half = (estimate.half_width if crossed else estimate.weighted_half_width)(ALPHA)
    return build_interval(estimate, half, (score,), score.lowest, score.highest)


def score_difference(a: RunScores, b: RunScores) -> Interval:
    """Return ``a`` minus ``b`` on the rows that both answered: 95 % interval, p-value.

    Raises:
        StoreError: ``a`` and ``b`` answered different rows.
    """
    a, b = on_common_rows(a, b)
    return difference_interval(estimate_variances(a, b), a, b)


def difference_interval(estimate: Estimate, a: RunScores, b: RunScores) -> Interval:
    """Return the difference of these scores with its 95 % interval and p-value."""
    widest = a.highest - a.lowest
    interval = build_interval(estimate, estimate.half_width(ALPHA), (a, b), -widest, widest)
    return replace(interval, p=estimate.p_value())


def build_interval(
    estimate: Estimate, half: float, scores: Sequence[RunScores], lowest: float, highest: float
) -> Interval:
    """Build the interval of half width ``half`` around the score of one cell, or the gap of two."""
    shared = scores[0]
    return Interval(
        estimate=estimate.value,
        low=max(lowest, estimate.value - half),
        high=min(highest, estimate.value + half),
        n_examples=len(shared.uid),
        n_seeds=min(len(score.tables) for score in scores),
        share_seeds=estimate.run_share,
        n_clusters=len(set(shared.cluster)),
        n_questions=len(set(shared.question)),
        highest=shared.highest,
        design=min((score.design for score in scores), key=lambda design: design.answered),
    )


def wilson_interval(correct: int, n: int) -> Interval:
    """Return the accuracy with its 95 % score interval (Wilson 1927).

    Args:
        correct: number of correct answers, 0 to ``n``.
        n: number of test examples, at least 1.

    Raises:
        ValueError: ``correct`` is not in 0 ... ``n``, or there is no example.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} correct answers of {n} examples")
    z = float(special.ndtri(1 - ALPHA / 2))
    centre = (correct + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(correct * (n - correct) / n + z**2 / 4)
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == n else centre + half
    return Interval(correct / n, low, high, n_examples=n, n_seeds=1, share_seeds=0.0)


def newcombe_difference(a: int, n: int, b: int, m: int) -> Interval:
    """Return accuracy ``a`` of ``n`` minus accuracy ``b`` of ``m``; 95 %, unpaired.

    The interval is Newcombe's (1998, method 10), from both Wilson intervals; ``p`` is two-sided,
    with the pooled share.
    """
    first, second = wilson_interval(a, n), wilson_interval(b, m)
    difference = first.estimate - second.estimate
    down = math.hypot(first.estimate - first.low, second.high - second.estimate)
    up = math.hypot(first.high - first.estimate, second.estimate - second.low)
    pooled = (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    p = 1.0 if error == 0 else float(special.erfc(abs(difference) / error / math.sqrt(2)))
    return Interval(difference, difference - down, difference + up, min(n, m), 1, 0.0, p)
