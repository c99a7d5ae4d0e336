"""Runs that failed, as an outcome of their own beside the score of the runs that trained.

A run failed if it diverged, did not fit into memory, or answers the same to everything. Few runs
say little about how often that happens: no rule can put it into the interval of a score. A method
that fails in 3 of 10 runs shows none in three runs with probability 0.34, and an interval of these
three was right in as few as 65 % of simulated studies. So scores, intervals and pairs are of runs
that trained, and the rate of failures stands beside them with its exact interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from paretune import metrics
from paretune.analysis.constant_answers import find_best_constant
from paretune.store.record import UNSCORED_RESULTS

if TYPE_CHECKING:
    from paretune.analysis.cells import Cell
    from paretune.analysis.statistics.bootstrap_score import BootstrapScore

FAILED_OUTCOMES = ("collapsed", *UNSCORED_RESULTS)
"""Outcomes that are failures of a method; an unexpected error says nothing about it."""

_TAIL = 0.05


@dataclass(frozen=True)
class FailureRate:
    """Failures among the runs of a cell that say something about it.

    Attributes:
        failed: runs that failed.
        runs: all of them.
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

    @property
    def expected(self) -> float:
        """Chance that the next run fails: posterior mean under Jeffreys' prior."""
        return (self.failed + 0.5) / (self.runs + 1)


def expected_next_score(cell: Cell) -> float | None:
    """The score that the next run may be expected to have, failures included.

    A failed run is worth what answering the best constant to everything would score. It is a number
    for weighing, no proof: with few runs the rate of failures is hardly known. None without a run
    that trained.
    """
    score, rate = cell.bootstrap, cell.failures
    if score is None:
        return None
    if rate is None or not rate.runs:
        return score.estimate
    failed = constant_score(score, cell.metric)
    return (1 - rate.expected) * score.estimate + rate.expected * failed


def constant_score(score: BootstrapScore, metric: str) -> float:
    """What the best constant answer scores; of texts the lowest score of the metric."""
    value = metrics.get(metric)
    if all(isinstance(label, str) for label in score.label):
        return value.lowest
    if any(isinstance(label, float) for label in score.label):
        mean = float(np.mean([float(label) for label in score.label]))
        return value.score(score.label, [mean] * len(score.label), score.question)
    labels = [int(label) for label in score.label]
    best = find_best_constant(labels, metric, score.question)
    return value.score(labels, [best] * len(labels), score.question)
