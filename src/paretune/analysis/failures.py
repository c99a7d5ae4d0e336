"""Runs that failed, as an outcome of their own beside the score of the runs that trained.

A run failed if it diverged, did not fit into memory, or answers the same to everything. Few runs
say little about how often that happens: no rule can put it into the interval of a score. A method
that fails in 3 of 10 runs shows none in three runs with probability 0.34, and an interval of these
three was right in as few as 65 % of simulated studies. So scores, intervals and pairs are of runs
that trained, and the rate of failures stands beside them with its exact interval.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy import special

from paretune.store.record import UNSCORED_RESULTS

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
