"""Metrics of answer sets: F1 over all answers (F1a), exact match of questions (EM), their mean.

MultiRC's metric (Khashabi et al. 2018) as SuperGLUE and SloBench compute it: F1a is the F1 of the
label "right" over every answer of every question, 0 where nothing is right and nothing is called
right; EM is the share of questions all of whose answers are judged rightly. If there are no
questions, every answer has a question of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.metrics.classification import NO_LABEL, label_indices
from paretune.metrics.metric import Array, Metric, Questions, Runs, Values, divide

RIGHT = 1
"""The label of a right answer; 0 is the other."""


def count_answers(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """(runs, examples, 5): right and called right, called right, right; right questions, questions.

    The last two stand at the first answer of each question.
    """
    label = label_indices("references", references)
    predicted = np.stack([label_indices("predictions", run, NO_LABEL) for run in predictions])
    first, shares = _question_shares(label == predicted, questions)
    counts = np.zeros((*predicted.shape, 5))
    counts[..., 0] = (label == RIGHT) & (predicted == RIGHT)
    counts[..., 1] = predicted == RIGHT
    counts[..., 2] = label == RIGHT
    counts[:, first, 3] = shares == 1
    counts[:, first, 4] = 1
    return counts


def credit_questions(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """Mean of a question's share of right answers and of 1 where all are; (runs, questions)."""
    _, shares = _question_shares(np.array(references) == np.array(predictions), questions)
    return np.asarray((shares + (shares == 1)) / 2)


def _question_shares(right: Array, questions: Questions) -> tuple[Array, Array]:
    """Where each question begins, (questions,), and its share of right answers.

    Shapes: ``right`` (runs, answers), shares (runs, questions).
    """
    answers = right.shape[1]
    if len(questions or right[0]) != answers:
        raise ValueError(f"{answers} references but {len(questions)} questions")
    _, first, member = np.unique(
        np.asarray(questions or range(answers)), return_index=True, return_inverse=True
    )
    shares = np.stack([np.bincount(member, weights=run) for run in right]) / np.bincount(member)
    order = np.argsort(first)
    return first[order], shares[:, order]


def _f1a(sums: Array) -> Array:
    hits, called, true = np.moveaxis(np.asarray(sums), -1, 0)[:3]
    return divide(2 * hits, called + true)


def _exact_match(sums: Array) -> Array:
    return np.asarray(1 - (sums[..., 4] - sums[..., 3]) / sums[..., 4])


_OF_SETS: dict[str, Any] = {
    "target_type": "answer_set",
    "statistics": count_answers,
    "credit": credit_questions,
}
F1A = Metric(
    name="f1a",
    title="F1a",
    description='F1 of the label "right" over all answers',
    from_sums=_f1a,
    selectable=False,
    **_OF_SETS,
)
EXACT_MATCH = Metric(
    name="em",
    title="EM",
    description="share of questions whose answers are all judged rightly",
    from_sums=_exact_match,
    selectable=False,
    **_OF_SETS,
)
F1A_EM = Metric(
    name="f1a_em",
    title="mean of F1a and EM",
    description="mean of F1a and EM (MultiRC, as SuperGLUE scores it)",
    from_sums=lambda sums: (_f1a(sums) + _exact_match(sums)) / 2,
    parts=("f1a", "em"),
    **_OF_SETS,
)
METRICS = (F1A_EM, F1A, EXACT_MATCH)
