"""Constant answers: which predictions are one, and what the best of them scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paretune import metrics
from paretune.store.record import Predictions
from paretune.study import Answer

CONSTANT_SPREAD = 1e-3
"""Numbers are constant if their spread is at most this share of the labels' spread."""


def answers_are_constant(answers: Sequence[Answer], labels: Sequence[Answer]) -> bool:
    """Whether two or more examples all got the same answer, so that nothing was learned.

    Numbers count as the same if their standard deviation is at most a thousandth of that of the
    labels; translations if they are the same text, for any number of segments.
    """
    if len(answers) < 2:
        return False
    if not any(isinstance(label, float) for label in labels):
        return len(set(answers)) == 1
    predicted, actual = (np.asarray(numbers, dtype=float) for numbers in (answers, labels))
    return bool(predicted.std() <= CONSTANT_SPREAD * actual.std())


def is_collapsed(*parts: Predictions) -> bool:
    """:func:`answers_are_constant` of a run's stored predictions, all parts together.

    Of a run in cross-validation its selection part counts too: few rows may lie in a fold.
    """
    answers = [answer for part in parts for answer in part.prediction]
    return answers_are_constant(answers, [label for part in parts for label in part.label])


def score_constants(
    labels: Sequence[int], metric: str, question: Sequence[int] = ()
) -> dict[int, float]:
    """What answering one label always would score, for each label that occurs."""
    n = len(labels)
    score = metrics.get(metric).score
    return {label: score(labels, [label] * n, question) for label in sorted(set(labels))}


def find_best_constant(labels: Sequence[int], metric: str, question: Sequence[int] = ()) -> int:
    """The constant answer that scores highest; the smaller label where two score the same."""
    scores = score_constants(labels, metric, question)
    return max(scores, key=lambda label: (scores[label], -label))
