"""Scores of numbers from sums over examples, vectorised over resamples.

Like the counts of :mod:`paretune.analysis.scores`: whatever resampling does, it does to sums of
1, y, y^2, a, a^2 and y a over the examples, with y the label and a the answer. So 2,000 bootstrap
draws are one matrix product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Numbers = NDArray[np.float64]


def columns(metric: str, label: Numbers, answer: Numbers) -> Numbers:
    """What is to be summed for one seed: (examples, 6).

    Shapes: ``label`` and ``answer`` (examples,). They are moved by the labels' mean, which changes
    no score and keeps the sums small. ``spearman`` takes the ranks that they have among all
    examples, also when it is resampled.
    """
    if metric == "spearman":
        label, answer = rankdata(label), rankdata(answer)
    centre = label.mean()
    y, a = label - centre, answer - centre
    return np.stack([np.ones_like(y), y, y * y, a, a * a, y * a], axis=1)


def from_sums(metric: str, sums: Numbers) -> Numbers:
    """The metric for each leading index; the last axis is that of :func:`columns`.

    Where all labels of a draw are the same, r2 and correlations are 0; so are correlations of
    answers that are all the same.
    """
    n, y, yy, a, aa, ya = np.moveaxis(sums, -1, 0)
    spread = yy - y * y / n
    if metric == "r2":
        error = yy - 2 * ya + aa
        return np.asarray(1 - _share(error, spread, otherwise=1.0))
    other = aa - a * a / n
    return _share(ya - y * a / n, np.sqrt(np.maximum(spread * other, 0.0)), otherwise=0.0)


def _share(part: Numbers, whole: Numbers, *, otherwise: float) -> Numbers:
    # What rounding leaves of a difference of equal sums is no spread.
    there = whole > 1e-12
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), otherwise), where=there))
