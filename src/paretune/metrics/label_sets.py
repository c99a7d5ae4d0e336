"""F1 and ranking average precision of several labels per example.

An answer is a text of 0 and 1, a character for each label: ``0110`` has the second and the third of
four. Equal to scikit-learn's ``f1_score`` of multi-hot rows with ``zero_division=nan`` (a label
that occurs neither in references nor in predictions has no F1), and to its
``label_ranking_average_precision_score``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.classification import macro_f1, micro_f1
from paretune.metrics.metric import Array, Metric, Questions, divide

LABEL_SET = "label_set"


def multi_hot(answers: Iterable[Any]) -> NDArray[np.bool_]:
    """Which labels each answer has, (answers, labels).

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


def label_set_counts(references: Any, predictions: Any, questions: Questions = ()) -> Array:
    """Indicators of hit, prediction and reference for each label; (runs, examples, 3 x labels)."""
    true = multi_hot(references)
    positive = np.stack([multi_hot(run) for run in predictions])
    counts = (positive & true, positive, np.broadcast_to(true, positive.shape))
    return np.concatenate(counts, axis=-1).astype(np.float32)


def rank_precision(references: Any, scores: Any, questions: Questions = ()) -> Array:
    """Average precision of each example's ranking of the labels, and 1; (runs, examples, 2).

    Of each label that the example has, the share of its labels among those scored as high; their
    mean. 1 where an example has no label, or all of them.
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


_OF_SETS: dict[str, Any] = {"target_type": LABEL_SET, "statistics": label_set_counts}
METRICS = (
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
