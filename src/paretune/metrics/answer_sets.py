"""Scores of answer sets: F1 over all answers (F1a), whole questions right (EM), and their mean.

MultiRC's metric (Khashabi et al. 2018) as SuperGLUE and SloBench compute it: F1a is the F1 of the
label "right" over every answer of every question; EM is the share of questions all of whose answers
are judged rightly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from paretune.metrics import classification

RIGHT = 1
"""The label of an answer that is right; 0 is the other."""


def scores(
    labels: ArrayLike, predictions: ArrayLike, questions: Sequence[int], metric: str
) -> dict[str, float | int]:
    """Score ``predictions`` against ``labels``.

    Args:
        labels: (answers,), 1 for a right answer and 0 for a wrong one.
        predictions: (answers,), the same.
        questions: (answers,), which question each belongs to.
        metric: ``f1a_em``, or one of :data:`paretune.metrics.classification.PRIMARY`.

    Returns:
        What classification has, with ``n`` answers; ``f1a``, ``em``, and ``questions``, their
        number.

    Raises:
        ValueError: as classification; or not one question for each answer.
    """
    primary = metric if metric in classification.PRIMARY else "accuracy"
    found = classification.scores(labels, predictions, 2, primary)
    label, answer = np.asarray(labels), np.asarray(predictions)
    if len(questions) != len(label):
        raise ValueError(f"{len(label)} labels but {len(questions)} questions")
    if metric != primary and metric != "f1a_em":
        raise ValueError(f"metric {metric!r} is not one of answer sets")
    both = int((label == RIGHT).sum() + (answer == RIGHT).sum())
    # Nothing right and nothing called right: 0, as scikit-learn's f1_score says.
    f1a = 2 * int(((label == RIGHT) & (answer == RIGHT)).sum()) / both if both else 0.0
    asked = set(questions)
    failed = {q for q, good in zip(questions, label == answer, strict=True) if not good}
    em = 1 - len(failed) / len(asked)
    if metric == "f1a_em":
        found["primary"] = (f1a + em) / 2
    return {**found, "f1a": f1a, "em": em, "questions": len(asked)}
