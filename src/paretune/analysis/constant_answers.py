"""The constant answer: what it scores, and who gives it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paretune import metrics
from paretune.store.record import Predictions
from paretune.study import Answer

CONSTANT_SPREAD = 1e-3
"""Numbers that vary by less than this share of what the labels vary by are one answer."""


def answers_are_constant(answers: Sequence[Answer], labels: Sequence[Answer]) -> bool:
    """Whether two or more examples all got the same answer: nothing was learnt from the text.

    Numbers count as the same where they vary by less than a thousandth of what the labels do;
    translations where they are the same text, whatever the segments.
    """
    if len(answers) < 2:
        return False
    if not any(isinstance(label, float) for label in labels):
        return len(set(answers)) == 1
    given, true = (np.asarray(numbers, dtype=float) for numbers in (answers, labels))
    return bool(given.std() <= CONSTANT_SPREAD * true.std())


def is_collapsed(predictions: Predictions) -> bool:
    """:func:`answers_are_constant` of stored answers."""
    return answers_are_constant(predictions.prediction, predictions.label)


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
