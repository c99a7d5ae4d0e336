"""Accuracy and F1 of a part's answers, and which of them is the task's primary score.

Every classification record has all three of accuracy, macro F1 and weighted F1; a task names the
one that decides (:data:`PRIMARY`). Multiple choice is scored the same way: the label is the index
of the right choice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

PRIMARY: Mapping[str, str] = {
    "accuracy": "share of examples answered right (BoolQ, COPA, RTE, WSC)",
    "macro_f1": "unweighted mean of the F1 of each label",
    "weighted_f1": "mean of the F1 of each label, weighted by its examples (the paper's figures)",
    "accuracy_f1": "mean of accuracy and macro F1 (CB, as SuperGLUE scores it)",
}
"""The primary metrics that a task may declare, and what each one means."""


def scores(
    labels: ArrayLike, predictions: ArrayLike, num_labels: int, metric: str
) -> dict[str, float | int]:
    """Score ``predictions`` against ``labels``.

    F1 is averaged over the labels that occur among ``labels`` or ``predictions``, as scikit-learn
    and SuperGLUE do: a label that nobody asked for and nobody answered has no F1. One that is
    only asked, or only answered, has F1 0 and counts in the macro mean.

    Args:
        labels: (examples,), integers in ``range(num_labels)``.
        predictions: (examples,), integers in ``range(num_labels)``.
        num_labels: how many labels (or choices) there are.
        metric: one of :data:`PRIMARY`.

    Returns:
        ``accuracy``, ``macro_f1``, ``weighted_f1``, ``primary`` (all in 0..1) and ``n``.

    Raises:
        ValueError: no examples, shapes that differ, an index outside the labels, or a metric
            that does not exist.
    """
    from sklearn.metrics import f1_score

    if metric not in PRIMARY:
        raise ValueError(f"metric {metric!r} is not one of {', '.join(PRIMARY)}")
    asked = _indices("labels", labels, num_labels)
    answered = _indices("predictions", predictions, num_labels)
    if asked.shape != answered.shape:
        raise ValueError(f"{len(asked)} labels but {len(answered)} predictions")
    accuracy = float(np.mean(asked == answered))
    macro = float(f1_score(asked, answered, average="macro", zero_division=0.0))
    weighted = float(f1_score(asked, answered, average="weighted", zero_division=0.0))
    primary = {
        "accuracy": accuracy,
        "macro_f1": macro,
        "weighted_f1": weighted,
        "accuracy_f1": (accuracy + macro) / 2,
    }[metric]
    return {
        "accuracy": accuracy,
        "macro_f1": macro,
        "weighted_f1": weighted,
        "primary": primary,
        "n": len(asked),
    }


def _indices(name: str, values: ArrayLike, num_labels: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be (examples,) with at least one; got shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers; got {array.dtype}")
    if array.min() < 0 or array.max() >= num_labels:
        raise ValueError(
            f"{name} must lie in 0..{num_labels - 1}; got {array.min()}..{array.max()}"
        )
    return array.astype(np.int64)
