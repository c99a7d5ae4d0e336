"""Scores with 95 % intervals over seeds and test examples.

**One split.** A cell's score is the mean over its seeds. Other seeds and other test examples would
give another score, so its variance is the sum of both parts::

    se^2 = s_seeds^2 / S + v_examples

``v_examples`` is the bootstrap variance over examples of the mean over seeds, and at least what
four imaginary examples, two correct and two wrong, would leave (Agresti and Coull 1998): eight
correct of eight is not certainty. With S seeds an imaginary example is answered 1/sqrt(S) apart
rather than 1, as a mean of S answers scatters less than one answer. Numbers and translations are
not simply correct or wrong: for them it is the bootstrap alone, and a score without any variance
has an interval of width 0 (a model that generates nothing scores 0 in every draw).

The noise of single answers is part of both variances, so it is taken out of ``v_examples``
(:func:`remove_residual`).

The Welch-Satterthwaite degrees of freedom of the sum are right on average. But two or three seeds
sometimes agree by chance; then the sum looks as certain as its many examples, and the interval
covers the true score in as few as 87 % of simulated studies. So the quantile is the mean of both
quantiles, weighted by the variances (Cochran and Cox 1950, "Experimental Designs", section 4.14;
Cochran 1964, Biometrics 20)::

    half = (t_seeds v_seeds + t_examples v_examples) / sqrt(v_seeds + v_examples)

With one seed this is Student's interval of the examples; without variance from examples it is
Student's interval of the seeds. Banerjee's rule, used for differences
(:mod:`paretune.analysis.statistics.differences`), is never narrower: it holds at the strict levels
of many comparisons, which a single score does not need.

**Outer cross-validation.** Rows are answered by several runs, so the variance over rows has that of
seeds and training sets in it; it is multiplied by :meth:`TestDesign.phi`, and Student's quantile is
that of the rows.

Dependent examples are resampled together. The resampled unit is the cluster if the predictions have
clusters (all answers to all questions on one passage, all span pairs of one text), the question if
they have questions only, otherwise the example. A passage rather than a question, because a model
that misreads a passage fails many of its questions: units of questions would make the interval too
narrow, units of answers more so. The unit determines what is drawn and the degrees of freedom; the
bootstrap variance is multiplied by k/(k - 1) for k clusters, since k may be 3 rather than 300. The
minimum of the four imaginary examples remains that of single examples (of F1a and EM: of
questions), as if they were independent: a lower bound for any clusters.

**Accuracies of which only the share is known**, of one seed: intervals cover test examples only.
Without the answers nothing can be paired: two experiments on the same examples are compared as if
they had answered different ones, which finds fewer differences, not more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from paretune.analysis.statistics.scores import (
    SPLIT,
    BootstrapScore,
    TestDesign,
    bootstrap_score,
    bootstrap_variance,
)
from paretune.metrics import Array
from paretune.store.record import Predictions


def cochran_cox_half_width(
    v_seeds: ArrayLike, seeds: int, v_examples: ArrayLike, units: int, level: float
) -> NDArray[Any]:
    """Half the width of two-sided intervals with coverage ``level``.

    Shapes: ``v_seeds`` and ``v_examples`` alike, any; one interval for each entry.

    Args:
        v_seeds: variance of the mean score that comes from seeds; ignored if there is one seed.
        seeds: number of seeds.
        v_examples: variance of the mean score that comes from test examples.
        units: number of independent units of examples, at least 2.
        level: for example 0.95.
    """
    examples = np.asarray(v_examples, dtype=float)
    t_examples = float(special.stdtrit(units - 1, (1 + level) / 2))
    if seeds == 1:
        return np.asarray(t_examples * np.sqrt(examples))
    between = np.asarray(v_seeds, dtype=float)
    error = np.sqrt(between + examples)
    t_seeds = float(special.stdtrit(seeds - 1, (1 + level) / 2))
    weighted = t_seeds * between + t_examples * examples
    # Without any variance the interval is the estimate.
    return np.asarray(np.divide(weighted, error, out=np.zeros(error.shape), where=error > 0))


LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        estimate: the score, or the difference of two.
        low: lower end.
        high: upper end.
        n_examples: test examples.
        n_seeds: seeds; the smaller number of two cells.
        share_seeds: share of the variance that comes from seeds; 0 with one seed, which leaves it
            unknown (:attr:`examples_only`).
        p: two-sided p-value against 0, for differences.
        n_clusters: clusters of examples; 0 for independent examples.
        n_questions: questions that the examples answer; 0 without.
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
        """One seed: the variance over seeds is unknown."""
        return self.n_seeds == 1 and not self.design.is_cross_validation


def score_interval(predictions: Sequence[Predictions], metric: str) -> Interval:
    """The mean score over seeds (one :class:`Predictions` each) with its 95 % interval."""
    return confidence_interval(bootstrap_score(predictions, metric))


def confidence_interval(score: BootstrapScore) -> Interval:
    """The score with its 95 % interval."""
    variance = example_variance(score)
    half = math.inf
    if score.units > 1:
        runs = score.run_degrees + 1
        half = float(
            cochran_cox_half_width(score.seed_variance, runs, variance, score.units, LEVEL)
        )
    interval = build_interval(score.estimate, half, (score,), score.seed_variance, variance)
    return replace(
        interval, low=max(score.lowest, interval.low), high=min(score.highest, interval.high)
    )


def example_variance(score: BootstrapScore) -> float:
    """The variance that comes from examples alone: bootstrap, but at least the plus-four one."""
    variance = bootstrap_variance(score, score.draws)
    if score.credit is not None:
        variance = max(variance, float(plus_four_variance(score.credit, len(score.seeds))))
    if score.design.is_cross_validation:
        return variance * score.design.phi(score.units)
    return remove_residual(variance, score.residual_variance)


def remove_residual(variance: float, residual: float) -> float:
    """The variance over examples without what the variance between seeds contains as well.

    At least a quarter of it: ``residual`` is itself an estimate, and where answers are mostly noise
    the rest would be left to chance.
    """
    return max(variance - residual, variance / 4)


def build_interval(
    estimate: float,
    half: float,
    scores: Sequence[BootstrapScore],
    v_seeds: float,
    v_examples: float,
) -> Interval:
    """The interval of half width ``half`` around the score of one cell, or the gap of two."""
    shared, total = scores[0], v_seeds + v_examples
    return Interval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        n_examples=len(shared.uid),
        n_seeds=min(len(score.seeds) for score in scores),
        share_seeds=v_seeds / total if total > 0 else 0.0,
        n_clusters=len(set(shared.cluster)),
        n_questions=len(set(shared.question)),
        highest=shared.highest,
        design=shared.design,
    )


def plus_four_variance(credit: Array, seeds: int = 1) -> Array:
    """Variance of the mean with four imaginary examples more, two correct and two wrong: (...,).

    Shapes: ``credit`` (..., examples), the share of ``seeds`` seeds that answer correctly.
    """
    n = credit.shape[-1] + 4
    mean = (credit.sum(axis=-1) + 2) / n
    # Each 1/(2 sqrt(S)) from the middle: squares of two right and two wrong.
    squares = 1 + 1 / seeds
    return np.asarray((((credit**2).sum(axis=-1) + squares) / n - mean**2) / n)


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
    first, second = wilson_interval(a, n), wilson_interval(b, m)
    difference = first.estimate - second.estimate
    down = math.hypot(first.estimate - first.low, second.high - second.estimate)
    up = math.hypot(first.high - first.estimate, second.estimate - second.low)
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
