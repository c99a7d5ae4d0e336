"""Scores of resampled examples: every metric from weighted sums over what is resampled.

What is drawn again is the unit: a cluster, a question, or an example of its own
(:mod:`paretune.analysis.statistics.score_interval` says which and why). 2,000 draws are one matrix
product.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal, cast

import numpy as np

from paretune.analysis import answer_sets, numbers, translations
from paretune.analysis.scores import Array, from_counts
from paretune.metrics.translation import Name
from paretune.store.record import Predictions
from paretune.study import ANSWER_SET_METRICS, REGRESSION_METRICS, TRANSLATION_METRICS, Metric

ScoredMetric = Metric | Literal["ter"]
"""What can be scored: the metrics that may be primary, and TER, which is shown beside them."""

DRAWS = 2000
MAX_UNITS = 4000
_SEED = 20_241_124

Resample = Callable[[Array | None], Array]
"""Scores of the examples as they are (None) or resampled with these weights; (seeds, draws)."""


def scorer(
    metric: ScoredMetric,
) -> Callable[[Sequence[Predictions], ScoredMetric], tuple[Resample, Array | None]]:
    """How answers under this metric are scored: what gives :data:`Resample`, and the share right.

    The share is (examples,), of seeds that answer rightly; None for numbers and texts.
    """
    if metric in ANSWER_SET_METRICS:
        return _of_sets
    if metric in (*TRANSLATION_METRICS, "ter"):
        return _of_texts
    return _of_numbers if metric in REGRESSION_METRICS else _of_classes


def _of_classes(predictions: Sequence[Predictions], metric: ScoredMetric) -> tuple[Resample, Array]:
    label = np.array(predictions[0].label)
    answer = np.array([p.prediction for p in predictions])
    size = 1 + max(int(label.max()), int(answer.max()))
    eye = np.eye(size, dtype=np.float32)
    true, given = eye[label], eye[answer]
    hit = given * true
    units = [sum_by_unit(part, predictions[0]) for part in (*hit, *given, true)]

    def scores(weights: Array | None) -> Array:
        # A column of counts for every seed and label; examples first, for one product each.
        counts = [resample_sums(part, weights) for part in units]
        seeds = len(predictions)
        return from_counts(
            cast(Metric, metric),
            np.stack(counts[:seeds]),
            np.stack(counts[seeds:-1]),
            counts[-1],
        )

    return scores, (answer == label).mean(axis=0)


def _of_numbers(predictions: Sequence[Predictions], metric: ScoredMetric) -> tuple[Resample, None]:
    label = np.array(predictions[0].label, dtype=float)
    parts = [
        sum_by_unit(numbers.columns(metric, label, np.array(p.prediction, dtype=float)), p)
        for p in predictions
    ]
    return (
        lambda weights: numbers.from_sums(
            metric, np.stack([resample_sums(part, weights) for part in parts])
        ),
        None,
    )


def _of_sets(predictions: Sequence[Predictions], metric: ScoredMetric) -> tuple[Resample, Array]:
    label = np.array(predictions[0].label)
    # Without questions every answer is one of its own.
    question = predictions[0].question or range(len(label))
    answers = [np.array(p.prediction) for p in predictions]
    parts = [
        sum_by_unit(answer_sets.columns(label, answer, question), predictions[0])
        for answer in answers
    ]
    credit = [answer_sets.credit(label, answer, question) for answer in answers]
    return (
        lambda weights: answer_sets.from_sums(
            np.stack([resample_sums(part, weights) for part in parts])
        ),
        np.mean(credit, axis=0),
    )


def _of_texts(predictions: Sequence[Predictions], metric: ScoredMetric) -> tuple[Resample, None]:
    name = cast(Name, metric)
    references = tuple(str(label) for label in predictions[0].label)
    parts = [
        sum_by_unit(translations.columns(name, tuple(str(t) for t in p.prediction), references), p)
        for p in predictions
    ]
    return (
        lambda weights: translations.from_sums(
            name, np.stack([resample_sums(part, weights) for part in parts])
        ),
        None,
    )


def sum_by_unit(part: Array, given: Predictions) -> Array:
    """Sums of rows (examples, columns) over what is resampled together: (units, columns)."""
    units = given.cluster or given.question
    if not units:
        return part
    _, member = np.unique(np.asarray(units), return_inverse=True)
    summed = np.zeros((int(member.max()) + 1, part.shape[1]), dtype=part.dtype)
    np.add.at(summed, member, part)
    return summed


def resample_sums(part: Array, weights: Array | None) -> Array:
    """Label counts (draws, labels) of one-hot rows (examples, labels)."""
    if weights is None:
        return np.asarray(part.sum(axis=0, keepdims=True, dtype=np.float64))
    n = len(part)
    if n > weights.shape[1]:
        # Very many examples: resample blocks of examples drawn at random instead of examples.
        # With 4,000 blocks that costs the standard error about 1 % of its precision.
        order = np.random.default_rng([_SEED, n]).permutation(n)
        starts = np.linspace(0, n, weights.shape[1], endpoint=False).astype(np.int64)
        part = np.add.reduceat(part[order], starts, axis=0)
    counts: Array = (weights @ part).astype(np.float64)
    return counts


@functools.lru_cache(maxsize=6)
def bootstrap_weights(n: int) -> Array:
    """How often each of n units is drawn; (DRAWS, n), single precision, always the same."""
    drawn = np.random.default_rng([_SEED, n, 1]).integers(0, n, size=(DRAWS, n))
    flat = (drawn + np.arange(DRAWS)[:, None] * n).ravel()
    return np.bincount(flat, minlength=DRAWS * n).reshape(DRAWS, n).astype(np.float32)
