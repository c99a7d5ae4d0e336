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
(:func:`remove_residual`). The quantile is that of Cochran and Cox
(:mod:`paretune.analysis.statistics.cochran_cox`).

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
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paretune.analysis.statistics.bootstrap_score import (
    BootstrapScore,
    bootstrap_score,
    bootstrap_variance,
)
from paretune.analysis.statistics.cochran_cox import cochran_cox_half_width
from paretune.analysis.test_design import SPLIT, TestDesign
from paretune.metrics import Array
from paretune.store.record import Predictions

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
