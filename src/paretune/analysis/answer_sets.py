"""F1a and EM from sums over examples, vectorised over resamples.

Like the counts of :mod:`paretune.analysis.scores`: whatever resampling does, it does to sums. A
question is counted at the first of its answers, so a sum over whole questions is right, and only
whole questions (or clusters of them) are ever resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def columns(label: Array, answer: Array, question: Sequence[int]) -> Array:
    """What is to be summed for one seed: (examples, 5).

    Right answers found, answers called right, right answers; questions without a fault, questions.

    Shapes: ``label``, ``answer`` and ``question`` (examples,).
    """
    first, share = _questions(label == answer, question)
    table = np.zeros((len(label), 5))
    table[:, 0] = (label == 1) & (answer == 1)
    table[:, 1] = answer == 1
    table[:, 2] = label == 1
    table[first, 3] = share == 1
    table[first, 4] = 1
    return table


def from_sums(sums: Array) -> Array:
    """The mean of F1a and EM for each leading index; the last axis is that of :func:`columns`.

    F1a is 0 where nothing is right and nothing is called right.
    """
    hit, given, true, fine, questions = np.moveaxis(sums, -1, 0)
    both = given + true
    f1a = np.divide(2 * hit, both, out=np.zeros(both.shape), where=both > 0)
    return np.asarray((f1a + fine / questions) / 2)


def credit(label: Array, answer: Array, question: Sequence[int]) -> Array:
    """How well each question was answered, 0 to 1; (questions,), as they first appear.

    The mean of its share of right answers and of 1 where it has no fault: what the score is made
    of, question by question.
    """
    share = _questions(label == answer, question)[1]
    return np.asarray((share + (share == 1)) / 2)


def _questions(right: Array, question: Sequence[int]) -> tuple[Array, Array]:
    """Where each question begins, and its share of right answers; (questions,) both."""
    _, first, member = np.unique(np.asarray(question), return_index=True, return_inverse=True)
    share = np.bincount(member, weights=right) / np.bincount(member)
    order = np.argsort(first)
    return first[order], share[order]
