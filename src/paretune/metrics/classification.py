"""Accuracy and F1: metrics of labels, and of choices, whose label is the index of the right one.

All are functions of three counts per label: hits, predictions, and references. F1 is averaged over
the labels that occur as reference or prediction, as scikit-learn and SuperGLUE do: a label that
occurs in neither has no F1; one that occurs in only one of them has F1 0 and counts in the mean.

Where examples have several labels, an answer is a text of 0 and 1, a character for each label:
``0110`` has the second and the third of four. Scores are those of scikit-learn's ``f1_score`` of
multi-hot rows (``zero_division=nan``), and ``label_ranking_average_precision_score``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.metric import Array, Metric, Questions, Runs, Values, divide

LABEL, LABEL_SET = "label", "label_set"
NO_LABEL = -1
"""The prediction that is none of the labels."""


def label_counts(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """Indicators of hit, prediction and reference for each label; (runs, examples, 3 x labels)."""
    if isinstance(next(iter(references), None), str):
        true, positive = multi_hot(references), np.stack([multi_hot(run) for run in predictions])
    else:
        label = label_indices("references", references)
        predicted = np.stack([label_indices("predictions", run, NO_LABEL) for run in predictions])
        one_hot = np.eye(1 + max(int(label.max()), int(predicted.max())), dtype=bool)
        true, positive = one_hot[label], one_hot[predicted] & (predicted != NO_LABEL)[..., None]
    counts = (positive & true, positive, np.broadcast_to(true, positive.shape))
    return np.concatenate(counts, axis=-1).astype(np.float32)


def label_indices(name: str, values: Values, lowest: int = 0) -> NDArray[np.int64]:
    """Labels as an integer array, (examples,).

    Raises:
        ValueError: no examples, or values that are no indices from ``lowest``.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected (examples,) with at least one; got {array.shape}")
    if not np.issubdtype(array.dtype, np.integer) or array.min() < lowest:
        raise ValueError(f"{name}: expected label indices; got {array.dtype}, {array.min()} ...")
    return array.astype(np.int64)


def multi_hot(answers: Iterable[Any]) -> NDArray[np.bool_]:
    """Mark the labels of each answer, (answers, labels).

    Raises:
        ValueError: no answers, or some that are no texts of 0 and 1 of one length.
    """
    rows = [str(answer) for answer in answers]
    if len({*map(len, rows)}) != 1 or not set("".join(rows)) <= {"0", "1"}:
        raise ValueError(f"expected texts of 0 and 1 of one length; got {rows[:3]} ...")
    return np.array([[has == "1" for has in row] for row in rows])


def write_label_set(has: Iterable[Any]) -> str:
    """The answer that has some labels, from true or false for each."""
    return "".join("01"[bool(present)] for present in has)


def rank_precision(references: Any, scores: Any, questions: Questions = ()) -> Array:
    """Average precision of each example's ranking of the labels, and 1; (runs, examples, 2).

    It is the mean over the example's labels of the share of its labels among those scored as high.
    It is 1 where an example has no label, or all of them.
    """
    true = multi_hot(references)
    tables = []
    for run in np.asarray(scores, dtype=np.float64):
        not_above = run[:, None, :] >= run[:, :, None]  # (examples, label, those as high)
        precision = (not_above & true[:, None, :]).sum(axis=-1) / not_above.sum(axis=-1)
        count = true.sum(axis=-1)
        mean = divide((precision * true).sum(axis=-1), count, otherwise=1.0)
        tables.append(np.stack([mean, np.ones(len(true))], axis=-1))
    return np.stack(tables)


def _accuracy(sums: Array) -> Array:
    hits, _, true = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
    return np.asarray(hits.sum(axis=-1) / true.sum(axis=-1))


def macro_f1(sums: Array) -> Array:
    """Mean F1 of the labels that occur, from sums of hits, predictions and references."""
    f1, occurs, _ = label_f1(sums)
    return divide(f1.sum(axis=-1), occurs.sum(axis=-1))


def micro_f1(sums: Array) -> Array:
    """F1 over all labels, from the same sums."""
    parts = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
    return label_f1(np.stack([part.sum(axis=-1) for part in parts], axis=-1))[0][..., 0]


def _weighted_f1(sums: Array) -> Array:
    f1, _, true = label_f1(sums)
    return np.asarray((f1 * true).sum(axis=-1) / true.sum(axis=-1))


def label_f1(sums: Array) -> tuple[Array, Array, Array]:
    """F1 of each label, whether the label occurs, and its references."""
    hits, positive, true = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
    both = positive + true
    return divide(2 * hits, both), both > 0, true


_OF_LABELS: dict[str, Any] = {
    "target_type": LABEL,
    "statistics": label_counts,
    "credit": lambda references, predictions, _: np.asarray(predictions) == np.asarray(references),
}
ACCURACY = Metric(
    name="accuracy",
    title="accuracy",
    description="share of examples answered right (BoolQ, COPA, RTE, WSC)",
    from_sums=_accuracy,
    **_OF_LABELS,
)
MACRO_F1 = Metric(
    name="macro_f1",
    title="macro F1",
    description="unweighted mean of the F1 of each label",
    from_sums=macro_f1,
    by_class=lambda references, predictions, labels: labels,
    **_OF_LABELS,
)
WEIGHTED_F1 = Metric(
    name="weighted_f1",
    title="weighted F1",
    description="mean of the F1 of each label, weighted by its examples",
    from_sums=_weighted_f1,
    **_OF_LABELS,
)
ACCURACY_F1 = Metric(
    name="accuracy_f1",
    title="mean of accuracy and macro F1",
    description="mean of accuracy and macro F1 (CB, as SuperGLUE scores it)",
    from_sums=lambda sums: (_accuracy(sums) + macro_f1(sums)) / 2,
    parts=("accuracy", "macro_f1"),
    **_OF_LABELS,
)
_OF_SETS: dict[str, Any] = {"target_type": LABEL_SET, "statistics": label_counts}
METRICS = (
    *(ACCURACY, MACRO_F1, WEIGHTED_F1, ACCURACY_F1),
    Metric(
        name="micro_f1",
        title="micro F1",
        description="F1 over all labels of all examples",
        from_sums=micro_f1,
        **_OF_SETS,
    ),
    Metric(
        name="multilabel_macro_f1",
        title="macro F1",
        description="unweighted mean of the F1 of each label, where examples have several",
        from_sums=macro_f1,
        by_class=MACRO_F1.by_class,
        **_OF_SETS,
    ),
    Metric(
        name="ranking_average_precision",
        title="ranking average precision",
        description="how far above the others an example's own labels are ranked",
        target_type=LABEL_SET,
        reads="scores",
        statistics=rank_precision,
        from_sums=lambda sums: sums[..., 0] / sums[..., 1],
    ),
)
