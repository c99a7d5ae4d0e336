"""Failed runs, as an outcome that is separate from the score of the runs that trained.

A run failed if it diverged, did not fit into memory, or answers the same to everything. Few runs
say little about how often that happens: no rule can put it into the interval of a score. A method
that fails in 3 of 10 runs shows none in three runs with probability 0.34, and an interval of these
three was right in as few as 65 % of simulated studies. So scores, intervals and pairs are of runs
that trained, and the rate of failures stands beside them with its exact interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from paretune.answers import Answer
from paretune.store.record import UNSCORED_RESULTS

FAILED_OUTCOMES = ("collapsed", *UNSCORED_RESULTS)
"""Outcomes that are failures of a method; an unexpected error is not evidence on it."""

_TAIL = 0.05


@dataclass(frozen=True)
class FailureRate:
    """Failures among the runs of a cell that are evidence on it.

    Attributes:
        failed: number of failed runs.
        runs: number of all these runs.
    """

    failed: int
    runs: int

    @property
    def low(self) -> float:
        """One-sided lower 95 % limit of the rate (Clopper and Pearson 1934)."""
        if not self.failed:
            return 0.0
        return float(special.betaincinv(self.failed, self.runs - self.failed + 1, _TAIL))

    @property
    def high(self) -> float:
        """One-sided upper 95 % limit: 0 of 5 failed leaves 45 %, 0 of 20 leaves 14 %."""
        if self.failed == self.runs:
            return 1.0
        return float(special.betaincinv(self.failed + 1, self.runs - self.failed, 1 - _TAIL))


CONSTANT_SPREAD = 1e-3
"""Numbers are constant if their spread is at most this share of the labels' spread."""


def answers_are_constant(answers: Sequence[Answer], labels: Sequence[Answer]) -> bool:
    """Whether two or more examples all got the same answer, so that nothing was learned.

    Numbers count as the same if their standard deviation is at most a thousandth of that of the
    labels; texts if they are the same, or nothing but one word, however often (tags of words).
    """
    if len(answers) < 2:
        return False
    if not any(isinstance(label, float) for label in labels):
        words = {word for answer in answers for word in str(answer).split()}
        return len(set(answers)) == 1 or len(words) == 1
    predicted, actual = (np.asarray(numbers, dtype=float) for numbers in (answers, labels))
    return bool(predicted.std() <= CONSTANT_SPREAD * actual.std())
