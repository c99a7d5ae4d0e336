"""How far a cell may be below the best: "at most x points worse", 95 %, for all cells at once.

The best is not known and may not be taken for the one that scored highest. Let E be the event that
no cell is overestimated against the truly best one by more than its half width. E is one-sided and
about k - 1 differences, so half widths of two-sided level 2 * 0.05 / (k - 1) give it 95 %. On E

- the truly best cell is among those that no other exceeds by more than the half width: the
  candidates;
- each cell is at most ``estimate of the best - its own + half width`` worse than the best.

So the largest of that over all candidates bounds every cell's true loss, and with 95 % all bounds
hold. These are Hsu's multiple comparisons with the best (1984, Annals of Statistics 12) with
Bonferroni's inequality in place of equal variances. All pairs of k cells would need 0.05 / (k(k -
1)/2): the bounds would be a quarter wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretune.analysis.pairwise_ranks import Pair, flip


@dataclass(frozen=True)
class Shortfall:
    """What is known of a cell's loss against the best of its model's cells.

    Attributes:
        best: name of the highest scored cell other than this one.
        most: largest loss with 95 %, in the metric's unit; 0 where the cell is proven best.
        highest: highest value of the metric, of which points are hundredths.
    """

    best: str
    most: float
    highest: float

    @property
    def points(self) -> float:
        """The largest loss, in hundredths of the metric's highest value."""
        return 100 * self.most / self.highest


def bound_shortfalls(pairs: Sequence[Pair]) -> dict[str, Shortfall]:
    """The largest loss of each cell, by name.

    Args:
        pairs: all pairs of the cells; those with a side of one run say nothing of other runs, and
            are left out.
    """
    rivals: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.withheld != "one run":
            # Each as what the rival is ahead.
            rivals.setdefault(pair.a, []).append(flip(pair))
            rivals.setdefault(pair.b, []).append(pair)
    candidates = {
        name
        for name, ahead in rivals.items()
        if all(pair.difference.estimate <= pair.bound for pair in ahead)
    }
    shortfalls = {}
    for name, ahead in rivals.items():
        losses = [p.difference.estimate + p.bound for p in ahead if p.a in candidates]
        best = max(ahead, key=lambda pair: pair.difference.estimate)
        widest = best.difference.highest
        shortfalls[name] = Shortfall(best.a, min(max([0.0, *losses]), widest), widest)
    return shortfalls
