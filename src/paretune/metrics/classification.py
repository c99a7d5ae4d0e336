"""Accuracy and F1: metrics of labels, and of choices, whose label is the index of the right one.

All are functions of three counts per label: hits, predictions, and references. F1 is averaged over
the labels that occur as reference or prediction, as scikit-learn and SuperGLUE do: a label that
occurs in neither has no F1; one that occurs in only one of them has F1 0 and counts in the mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.metric import Array, Metric, Questions, Runs, Values

LABEL = "label"
NO_LABEL = -1
"""The prediction that is none of the labels."""


def accuracy(references: Values, predictions: Values, questions: Questions = ()) -> float:
    """Share of examples whose prediction is the reference."""
    label, predicted = label_arrays(references, predictions)
    return float(np.mean(label == predicted))


def macro_f1(references: Values, predictions: Values, questions: Questions = ()) -> float:
    """Unweighted mean of the F1 of each label, by scikit-learn."""
    return _f1(references, predictions, "macro")


def weighted_f1(references: Values, predictions: Values, questions: Questions = ()) -> float:
    """Mean of the F1 of each label, weighted by its references, by scikit-learn."""
    return _f1(references, predictions, "weighted")


def accuracy_f1(references: Values, predictions: Values, questions: Questions = ()) -> float:
    """Mean of accuracy and macro F1."""
    return (accuracy(references, predictions) + macro_f1(references, predictions)) / 2


def label_counts(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """Indicators of hit, prediction and reference for each label; (runs, examples, 3 x labels)."""
    label, predicted = np.array(references), np.array(predictions)
    one_hot = np.eye(1 + max(int(label.max()), int(predicted.max())), dtype=np.float32)
    true, positive = one_hot[label], one_hot[predicted] * (predicted != NO_LABEL)[..., None]
    return np.concatenate(
        [positive * true, positive, np.broadcast_to(true, positive.shape)], axis=-1
    )


def split_counts(sums: Array) -> tuple[Array, Array, Array]:
    """Hits, predictions and references per label, from sums of :func:`label_counts`."""
    hits, predicted_counts, true = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
    return hits, predicted_counts, true


def credit_labels(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """1 where the prediction is the reference; (runs, examples)."""
    return np.asarray(np.array(predictions) == np.array(references))


def label_arrays(
    references: Values, predictions: Values
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as checked integer arrays.

    Raises:
        ValueError: no examples, different lengths, or values that are no indices.
    """
    label = _indices("references", references, 0)
    predicted = _indices("predictions", predictions, NO_LABEL)
    if label.shape != predicted.shape:
        raise ValueError(f"{len(label)} references but {len(predicted)} predictions")
    return label, predicted


def _indices(name: str, values: Values, lowest: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected (examples,) with at least one; got {array.shape}")
    if not np.issubdtype(array.dtype, np.integer) or array.min() < lowest:
        raise ValueError(f"{name}: expected label indices; got {array.dtype}, {array.min()} ...")
    return array.astype(np.int64)


def _f1(references: Values, predictions: Values, average: str) -> float:
    from sklearn.metrics import f1_score

    label, predicted = label_arrays(references, predictions)
    # A prediction that is no label is in no list of labels, and so has no F1 of its own.
    occurring = np.union1d(label, predicted[predicted != NO_LABEL])
    return float(f1_score(label, predicted, labels=occurring, average=average, zero_division=0.0))


def _accuracy_from_counts(sums: Array) -> Array:
    hits, _, true = split_counts(sums)
    return np.asarray(hits.sum(axis=-1) / true.sum(axis=-1))


def _label_f1(sums: Array) -> tuple[Array, Array, Array]:
    """F1 of each label, whether the label occurs, and its references."""
    hits, predicted_counts, true = split_counts(sums)
    both = predicted_counts + true
    f1 = np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0)
    return f1, both > 0, true


def _macro_f1_from_counts(sums: Array) -> Array:
    f1, occurs, _ = _label_f1(sums)
    return np.asarray(f1.sum(axis=-1) / occurs.sum(axis=-1))


def _weighted_f1_from_counts(sums: Array) -> Array:
    f1, _, true = _label_f1(sums)
    return np.asarray((f1 * true).sum(axis=-1) / true.sum(axis=-1))


def _accuracy_f1_from_counts(sums: Array) -> Array:
    return np.asarray((_accuracy_from_counts(sums) + _macro_f1_from_counts(sums)) / 2)


_OF_LABELS: dict[str, Any] = {
    "target_type": LABEL,
    "statistics": label_counts,
    "credit": credit_labels,
}
ACCURACY = Metric(
    name="accuracy",
    title="accuracy",
    description="share of examples answered right (BoolQ, COPA, RTE, WSC)",
    compute=accuracy,
    from_sums=_accuracy_from_counts,
    **_OF_LABELS,
)
MACRO_F1 = Metric(
    name="macro_f1",
    title="macro F1",
    description="unweighted mean of the F1 of each label",
    compute=macro_f1,
    from_sums=_macro_f1_from_counts,
    **_OF_LABELS,
)
WEIGHTED_F1 = Metric(
    name="weighted_f1",
    title="weighted F1",
    description="mean of the F1 of each label, weighted by its examples",
    compute=weighted_f1,
    from_sums=_weighted_f1_from_counts,
    **_OF_LABELS,
)
ACCURACY_F1 = Metric(
    name="accuracy_f1",
    title="mean of accuracy and macro F1",
    description="mean of accuracy and macro F1 (CB, as SuperGLUE scores it)",
    compute=accuracy_f1,
    from_sums=_accuracy_f1_from_counts,
    parts=("accuracy", "macro_f1"),
    **_OF_LABELS,
)
METRICS = (ACCURACY, MACRO_F1, WEIGHTED_F1, ACCURACY_F1)
