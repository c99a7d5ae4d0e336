"""Metrics of answer sets: F1 over all answers (F1a), exact match of questions (EM), their mean.

MultiRC's metric (Khashabi et al. 2018) as SuperGLUE and SloBench compute it: F1a is the F1 of the
label "right" over every answer of every question; EM is the share of questions all of whose answers
are judged rightly. Without questions every answer is to a question of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.metrics.classification import label_arrays
from paretune.metrics.metric import Array, Metric, Questions, Runs, Values

ANSWER_SET = "answer_set"
RIGHT = 1
"""The label of a right answer; 0 is the other."""


def f1a(references: Values, predictions: Values, questions: Questions = ()) -> float:
    """F1 of the label "right"; 0 where nothing is right and nothing is called right."""
    label, predicted = label_arrays(references, predictions)
    both = int((label == RIGHT).sum() + (predicted == RIGHT).sum())
    return 2 * int(((label == RIGHT) & (predicted == RIGHT)).sum()) / both if both else 0.0


def exact_match(references: Values, predictions: Values, questions: Questions = ()) -> float:
    """Share of questions whose answers are all judged rightly."""
    label, predicted = label_arrays(references, predictions)
    questions = _own_questions(label, questions)
    if len(questions) != len(label):
        raise ValueError(f"{len(label)} references but {len(questions)} questions")
    failed = {q for q, right in zip(questions, label == predicted, strict=True) if not right}
    return 1 - len(failed) / len(set(questions))


def f1a_em(references: Values, predictions: Values, questions: Questions = ()) -> float:
    """Mean of F1a and EM."""
    both = (references, predictions, questions)
    return (f1a(*both) + exact_match(*both)) / 2


def count_answers(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """(runs, examples, 5): right and called right, called right, right; right questions, questions.

    The last two stand at the first answer of each question.
    """
    label = np.array(references)
    questions = _own_questions(label, questions)
    return np.stack([_count_run(label, np.array(run), questions) for run in predictions])


def credit_questions(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """Mean of a question's share of right answers and of 1 where all are; (runs, questions)."""
    label = np.array(references)
    questions = _own_questions(label, questions)
    shares = [_questions(label == np.array(run), questions)[1] for run in predictions]
    return np.stack([(share + (share == 1)) / 2 for share in shares])


def _count_run(label: Array, predicted: Array, questions: Questions) -> Array:
    first, share = _questions(label == predicted, questions)
    table = np.zeros((len(label), 5))
    table[:, 0] = (label == RIGHT) & (predicted == RIGHT)
    table[:, 1] = predicted == RIGHT
    table[:, 2] = label == RIGHT
    table[first, 3] = share == 1
    table[first, 4] = 1
    return table


def _own_questions(label: Array, questions: Questions) -> Questions:
    return questions or range(len(label))


def _questions(right: Array, questions: Questions) -> tuple[Array, Array]:
    """Where each question begins, and its share of right answers; (questions,) both."""
    _, first, member = np.unique(np.asarray(questions), return_index=True, return_inverse=True)
    share = np.bincount(member, weights=right) / np.bincount(member)
    order = np.argsort(first)
    return first[order], share[order]


def _f1a_from_sums(sums: Array) -> Array:
    hits, called, true = np.moveaxis(np.asarray(sums), -1, 0)[:3]
    both = called + true
    return np.asarray(np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0))


def _exact_match_from_sums(sums: Array) -> Array:
    return np.asarray(sums[..., 3] / sums[..., 4])


def _f1a_em_from_sums(sums: Array) -> Array:
    return np.asarray((_f1a_from_sums(sums) + _exact_match_from_sums(sums)) / 2)


_OF_SETS: dict[str, Any] = {
    "target_type": ANSWER_SET,
    "statistics": count_answers,
    "credit": credit_questions,
}
F1A = Metric(
    name="f1a",
    title="F1a",
    description='F1 of the label "right" over all answers',
    compute=f1a,
    from_sums=_f1a_from_sums,
    selectable=False,
    **_OF_SETS,
)
EXACT_MATCH = Metric(
    name="em",
    title="EM",
    description="share of questions whose answers are all judged rightly",
    compute=exact_match,
    from_sums=_exact_match_from_sums,
    selectable=False,
    **_OF_SETS,
)
F1A_EM = Metric(
    name="f1a_em",
    title="mean of F1a and EM",
    description="mean of F1a and EM (MultiRC, as SuperGLUE scores it)",
    compute=f1a_em,
    from_sums=_f1a_em_from_sums,
    parts=("f1a", "em"),
    **_OF_SETS,
)
METRICS = (F1A_EM, F1A, EXACT_MATCH)
