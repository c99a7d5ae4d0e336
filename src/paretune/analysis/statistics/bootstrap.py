"""Scores of resampled examples: every metric from weighted sums over what is resampled.

What is drawn again is the unit: a cluster, a question, or an example of its own
(:mod:`paretune.analysis.statistics.score_interval` says which and why). 2,000 draws are one matrix
product.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from paretune.metrics import Array, Metric
from paretune.store.record import Predictions

DRAWS = 2000
MAX_UNITS = 4000
_SEED = 20_241_124

Resample = Callable[[Array | None], Array]
"""Scores of the examples as they are (None) or resampled with these weights; (seeds, draws)."""


def resample_metric(
    predictions: Sequence[Predictions], metric: Metric
) -> tuple[Resample, Array | None]:
    """How a metric's scores are resampled, and how right each unit is on average over the seeds.

    The latter is (examples,), of answer sets (questions,); None where the metric has no credit.
    """
    first = predictions[0]
    compared = first.label, [run.prediction for run in predictions], first.question
    tables = [sum_by_unit(table, first) for table in metric.statistics(*compared)]
    credit = None if metric.credit is None else metric.credit(*compared).mean(axis=0)

    def scores(weights: Array | None) -> Array:
        return metric.from_sums(np.stack([resample_sums(table, weights) for table in tables]))

    return scores, credit


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
