"""Scores of a run's answers where the labels are numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

PRIMARY: Mapping[str, str] = {
    "r2": "1 - squared error / variance: 1 is exact, 0 is the mean answer, and below is worse",
    "pearson": "linear correlation of answers and labels",
    "spearman": "correlation of their ranks",
}
"""The primary metrics that a regression may declare, and what each one means."""


def scores(labels: ArrayLike, predictions: ArrayLike, metric: str) -> dict[str, float | int]:
    """Score ``predictions`` against ``labels``, in the labels' unit.

    What is constant has no correlation with anything: ``pearson`` and ``spearman`` are 0 then, and
    where every label is the same, ``r2`` is 0 unless the answers are exact.

    Args:
        labels: (examples,) numbers.
        predictions: (examples,) numbers.
        metric: one of :data:`PRIMARY`.

    Returns:
        ``r2``, ``pearson``, ``spearman``, ``rmse``, ``mae`` (these two in the labels' unit),
        ``primary`` and ``n``.

    Raises:
        ValueError: no examples, shapes that differ, a number that is not finite, or a metric that
            does not exist.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    if metric not in PRIMARY:
        raise ValueError(f"metric {metric!r} is not one of {', '.join(PRIMARY)}")
    asked, answered = np.asarray(labels, dtype=float), np.asarray(predictions, dtype=float)
    if asked.ndim != 1 or asked.size == 0 or asked.shape != answered.shape:
        raise ValueError(f"labels {asked.shape} and predictions {answered.shape}")
    if not (np.isfinite(asked).all() and np.isfinite(answered).all()):
        raise ValueError("a label or a prediction is not finite")
    found = {
        "r2": float(r2_score(asked, answered)),
        "pearson": _correlation(asked, answered),
        "spearman": _correlation(rankdata(asked), rankdata(answered)),
        "rmse": float(root_mean_squared_error(asked, answered)),
        "mae": float(mean_absolute_error(asked, answered)),
    }
    return {**found, "primary": found[metric], "n": len(asked)}


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
