"""Scores with 95 % intervals over seeds and test examples.

A cell's score is the mean over its seeds. Other seeds and other test examples would give another
score, so its variance is the sum of both parts::

    se^2 = s_seeds^2 / S + v_examples

``v_examples`` is the bootstrap variance over examples of the mean over seeds, and at least what
four imaginary examples, two correct and two wrong, would leave (Agresti and Coull 1998): eight
correct of eight is not certainty. Numbers and translations are not simply correct or wrong: for
them it is the bootstrap alone, and a score without any variance has an interval of width 0 (a model
that generates nothing scores 0 in every draw). The quantile is that of Cochran and Cox
(:mod:`paretune.analysis.statistics.cochran_cox`).

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
from scipy import special

from paretune.analysis.statistics.bootstrap_score import (
    BootstrapScore,
    bootstrap_score,
    bootstrap_variance,
)
from paretune.analysis.statistics.cochran_cox import cochran_cox_half_width
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

    @property
    def examples_only(self) -> bool:
        """One seed: the variance over seeds is unknown."""
        return self.n_seeds == 1


def score_interval(predictions: Sequence[Predictions], metric: str) -> Interval:
    """The mean score over seeds (one :class:`Predictions` each) with its 95 % interval."""
    return confidence_interval(bootstrap_score(predictions, metric))


def confidence_interval(score: BootstrapScore) -> Interval:
    """The score with its 95 % interval (Cochran and Cox)."""
    variance = example_variance(score)
    student = student_interval(score.estimate, [score], variance, (score.lowest, score.highest))
    if score.units < 2:
        return student
    half = float(
        cochran_cox_half_width(score.seed_variance, len(score.seeds), variance, score.units, LEVEL)
    )
    return replace(
        student,
        low=max(score.lowest, student.estimate - half),
        high=min(score.highest, student.estimate + half),
    )


def example_variance(score: BootstrapScore) -> float:
    """The variance that comes from examples: bootstrap, but at least the plus-four variance."""
    bootstrapped = bootstrap_variance(score, score.draws)
    if score.credit is None:
        return bootstrapped
    return max(bootstrapped, float(plus_four_variance(score.credit)))


def plus_four_variance(credit: Array) -> Array:
    """Variance of the mean with four imaginary examples more, two correct and two wrong: (...,).

    Shapes: ``credit`` (..., examples), the share of seeds that answer correctly.
    """
    n = credit.shape[-1] + 4
    mean = (credit.sum(axis=-1) + 2) / n
    return np.asarray((((credit**2).sum(axis=-1) + 2) / n - mean**2) / n)


def student_interval(
    estimate: float,
    scores: Sequence[BootstrapScore],
    v_examples: float,
    bounds: tuple[float, float],
) -> Interval:
    """Student's interval from the seeds of one or two scores and the examples they share (Welch).

    Without any variance the interval is the estimate; with one unit it is unbounded.
    """
    terms = [(s.seed_variance, len(s.seeds) - 1) for s in scores if len(s.seeds) > 1]
    v_seeds = sum(v for v, _ in terms)
    shared = scores[0]
    terms.append((v_examples, max(shared.units - 1, 1)))
    total = v_seeds + v_examples
    half, p = (0.0, float(estimate == 0)) if shared.units > 1 else (math.inf, 1.0)
    if total > 0:
        freedom = total**2 / sum(v**2 / df for v, df in terms)
        error = total**0.5
        half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
        p = 2 * float(special.stdtr(freedom, -abs(estimate) / error))
    return Interval(
        estimate=estimate,
        low=max(bounds[0], estimate - half),
        high=min(bounds[1], estimate + half),
        n_examples=len(shared.uid),
        n_seeds=min(len(score.seeds) for score in scores),
        share_seeds=v_seeds / total if total > 0 else 0.0,
        p=p,
        n_clusters=len(set(shared.cluster)),
        n_questions=len(set(shared.question)),
        highest=shared.highest,
    )
