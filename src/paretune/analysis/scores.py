"""Scores from label counts, vectorised over seeds and resamples.

Numbers, answer sets and texts have files of their own.

Every metric of classes is a function of three counts per label: right answers (``hit``), answers
given (``given``) and examples that have the label (``true``). Resampling examples only resamples
these counts, so 2,000 bootstrap draws are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from paretune.analysis import answer_sets
from paretune.store.record import Record
from paretune.study import ANSWER_SET_METRICS, Metric

METRICS: tuple[Metric, ...] = get_args(Metric)
TITLES: dict[Metric, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "accuracy_f1": "mean of accuracy and macro F1",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "f1a_em": "mean of F1a and EM",
    "bleu": "BLEU",
    "chrf": "chrF",
}
MEANS: dict[Metric, tuple[str, ...]] = {
    "accuracy_f1": ("accuracy", "macro_f1"),
    "f1a_em": ("f1a", "em"),
}
"""Metrics that are the mean of others, which are what a record holds."""
LOWEST: dict[str, float] = {"r2": -math.inf, "pearson": -1.0, "spearman": -1.0}
"""What a metric can come down to, where that is not 0."""
HIGHEST: dict[str, float] = {"bleu": 100.0, "chrf": 100.0, "ter": math.inf}
"""What a metric can come up to, where that is not 1."""

Array = NDArray[Any]


def from_counts(metric: Metric, hit: Array, given: Array, true: Array) -> Array:
    """The metric for each leading index; the last axis is the label.

    Macro F1 is the mean over labels that occur as label or as answer, as scikit-learn's
    ``f1_score(average="macro")`` without ``labels``.

    Shapes: ``hit``, ``given`` (..., labels); ``true`` broadcasts against them.
    """
    total = true.sum(axis=-1)
    accuracy = hit.sum(axis=-1) / total
    if metric == "accuracy":
        return np.asarray(accuracy)
    both = given + true
    f1 = np.divide(2 * hit, both, out=np.zeros(both.shape), where=both > 0)
    if metric == "weighted_f1":
        return np.asarray((f1 * true).sum(axis=-1) / total)
    macro = f1.sum(axis=-1) / (both > 0).sum(axis=-1)
    return np.asarray(macro if metric == "macro_f1" else (accuracy + macro) / 2)


def score(
    labels: Iterable[int], answers: Iterable[int], metric: Metric, question: Sequence[int] = ()
) -> float:
    """The metric of one list of answers; ``question`` says what they are answers to, if anything.

    Without it every answer of an answer set is to a question of its own.
    """
    label, answer = np.fromiter(labels, np.int64), np.fromiter(answers, np.int64)
    if metric in ANSWER_SET_METRICS:
        columns = answer_sets.columns(label, answer, question or range(len(label)))
        return float(answer_sets.from_sums(columns.sum(axis=0)))
    size = 1 + max(label.max(), answer.max())
    true, given = np.bincount(label, minlength=size), np.bincount(answer, minlength=size)
    hit = np.bincount(label[label == answer], minlength=size)
    return float(from_counts(metric, hit.astype(float), given.astype(float), true.astype(float)))


def primary_metric(records: Iterable[Record]) -> Metric | None:
    """Which metric the records of one task call ``primary``; None if it is none of ours.

    A study file may name it; otherwise it is the one whose recorded value equals ``primary`` in
    every record. So a report needs no task definitions, which may have changed or gone since.
    """
    # Only answer sets have theirs, so where it fits it is no chance. Those of texts stand last:
    # only a translation has them, and it has no others.
    possible = sorted(METRICS, key=lambda metric: metric not in ANSWER_SET_METRICS)
    seen = False
    for record in records:
        if record.run.task.metric is not None:
            return record.run.task.metric
        for scores in record.result.get("scores", {}).values():
            if scores and scores.get("primary") is not None:
                seen = True
                possible = [m for m in possible if _equal(m, scores)]
    return possible[0] if possible and seen else None


def _equal(metric: Metric, scores: dict[str, Any]) -> bool:
    names = MEANS.get(metric, (metric,))
    if any(scores.get(name) is None for name in names):
        return False
    value = sum(float(scores[name]) for name in names) / len(names)
    return abs(value - float(scores["primary"])) < 1e-9
