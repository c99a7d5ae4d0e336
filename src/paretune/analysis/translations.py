"""BLEU, chrF and TER from sums over segments, vectorised over resamples.

Like the counts of :mod:`paretune.analysis.scores`: a corpus score is a function of sums of what
:mod:`paretune.metrics.translation` counts in each segment by sacreBLEU, so whatever resampling
does, it does to sums. They are sacreBLEU's own scores of the resampled texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.translation import Name, statistic

Array = NDArray[Any]


@lru_cache(maxsize=512)
def columns(name: Name, translations: tuple[str, ...], references: tuple[str, ...]) -> Array:
    """What is to be summed for one seed: (segments, statistics). Not to be written to."""
    table = statistic(name, translations, references).table
    table.flags.writeable = False
    return table


def from_sums(name: Name, sums: Array) -> Array:
    """The score, 0 to 100, for each leading index; the last axis is that of :func:`columns`.

    TER, which counts edits to a word of the reference, may exceed 100.
    """
    return {"bleu": _bleu, "chrf": _chrf, "ter": _ter}[name](np.asarray(sums, dtype=float))


def score(name: Name, translations: Sequence[str], references: Sequence[str]) -> float:
    """The score of one list of translations."""
    table = columns(name, tuple(translations), tuple(references))
    return float(from_sums(name, table.sum(axis=0)))


def _bleu(sums: Array) -> Array:
    """Geometric mean of n-gram precisions, with exponential smoothing, times the brevity penalty.

    Columns: length, reference's length, right n-grams and all n-grams of four orders.
    """
    length, wanted = sums[..., 0], sums[..., 1]
    right, all_ = sums[..., 2:6], sums[..., 6:]
    missed = right == 0
    # The k-th order without a hit counts as half of a hit, as a quarter, an eighth...
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), right)
    # An order that no segment is long enough for has no precision, and the score is 0.
    there = all_ > 0
    logs = np.log(np.divide(smoothed, all_, out=np.ones(all_.shape), where=there))
    short = np.minimum(
        0.0, 1 - np.divide(wanted, length, out=np.ones(length.shape), where=length > 0)
    )
    whole = 100 * np.exp(short + logs.mean(axis=-1))
    return np.asarray(np.where(there.all(axis=-1) & right.any(axis=-1), whole, 0.0))


def _chrf(sums: Array) -> Array:
    """F2 of the means of precision and recall over orders of characters that both sides have.

    Columns: given, wanted and right n-grams, for each of six orders.
    """
    given, wanted, right = (sums[..., k::3] for k in range(3))
    there = (given > 0) & (wanted > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision, recall = (
        np.divide(right, of, out=np.zeros(right.shape), where=there).sum(axis=-1) / orders
        for of in (given, wanted)
    )
    below = 4 * precision + recall
    share = np.divide(5 * precision * recall, below, out=np.zeros(below.shape), where=below > 0)
    return np.asarray(100 * share)


def _ter(sums: Array) -> Array:
    """Edits to a word of the reference. Columns: edits, words of the reference."""
    made, words = sums[..., 0], sums[..., 1]
    empty = np.where(made > 0, 1.0, 0.0)
    return np.asarray(100 * np.divide(made, words, out=empty, where=words > 0))
