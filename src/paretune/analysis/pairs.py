"""All pairs of cells on one model and task, and the ranks and largest losses that follow.

**The largest loss**: how far a cell may be below the best, 95 % for all cells at once. The best is
not known and may not be taken for the one that scored highest. Let E be the event that no cell is
overestimated against the truly best one by more than its half width. E is one-sided and about k - 1
differences, so half widths of two-sided level 2 * 0.05 / (k - 1) give it 95 %. On E

- the truly best cell is among those that no other exceeds by more than the half width: the
  candidates;
- each cell is at most ``estimate of the best - its own + half width`` worse than the best.

So the largest of that over all candidates bounds every cell's true loss, and with 95 % all bounds
hold. These are Hsu's multiple comparisons with the best (1984, Annals of Statistics 12) with
Bonferroni's inequality in place of equal variances. All pairs of k cells would need 0.05 / (k(k -
1)/2): the bounds would be a quarter wider.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from paretune.analysis.statistics.differences import (
    Estimate,
    RunScatter,
    estimate_variances,
    on_common_rows,
    pool_runs,
)
from paretune.analysis.statistics.intervals import Interval, difference_interval
from paretune.analysis.statistics.multiple_testing import ALPHA, all_pairs_correction
from paretune.analysis.statistics.scores import RunScores

Standing = Literal["above", "unclear", "below"]


def standing_of(difference: Interval, p_holm: float) -> Standing:
    """Above or below if the corrected p-value is under 0.05, otherwise unclear."""
    if p_holm >= ALPHA:
        return "unclear"
    return "above" if difference.estimate > 0 else "below"


@dataclass(frozen=True)
class McNemar:
    """Examples that only one of two runs answers correctly, and the exact p-value."""

    only_a: int
    only_b: int
    p: float


Withheld = Literal["", "one run", "failures", "stopped"]
"""Why a pair may not be decided: a side of one run, failures that outweigh a higher score, or a
side that a race did not give all its runs."""


@dataclass(frozen=True)
class Pair:
    """``a`` minus ``b``, paired on the same examples, of runs that trained.

    Attributes:
        a: name of one cell.
        b: name of the other.
        difference: its interval alone, uncorrected.
        p_holm: p-value corrected over the ``family``.
        mcnemar: exact test of two single runs.
        family: number of claims over which it is corrected: pairs, or methods that are each
            compared with all baselines.
        withheld: why there is no verdict, whatever the p-value.
        bound: half the width of the interval by which ``a`` and ``b`` are bounded against the
            best of all cells (:mod:`paretune.analysis.pairs`).
        terms: the difference with its variance; None where it is not known.
    """

    a: str
    b: str
    difference: Interval
    p_holm: float
    mcnemar: McNemar | None
    family: int = 1
    withheld: Withheld = ""
    bound: float = math.inf
    terms: Estimate | None = field(default=None, repr=False, compare=False)

    @property
    def corrected(self) -> Interval:
        """The difference with the interval of the verdict: it has 0 inside where none is proven.

        Its level is 0.05 divided by what the p-value was multiplied by, or by the size of the
        family where the corrected p-value is 1.
        """
        if self.terms is None or self.difference.p <= 0:
            return self.difference
        share = self.difference.p / self.p_holm if self.p_holm < 1 else 1 / self.family
        alone, widest = self.difference, self.difference.highest
        half_width = max(alone.estimate - alone.low, alone.high - alone.estimate)
        half = max(self.terms.half_width(ALPHA * share), half_width)
        low, high = alone.estimate - half, alone.estimate + half
        return replace(alone, low=max(low, -widest), high=min(high, widest))

    @property
    def standing(self) -> Standing:
        """Whether ``a`` is better or worse: proven if the corrected p-value is under 0.05."""
        return "unclear" if self.withheld else standing_of(self.difference, self.p_holm)


@dataclass(frozen=True)
class RacedPairs:
    """What a race changes in the comparison of all pairs (docs/how-it-works/statistics.md).

    Cells lend each other the scatter of their first runs alone, since that of a stopped one is
    not known; a pair of which a side lacks runs has p = 1, and so have pairs of cells without a
    score.

    Attributes:
        members: cells of the family, those without a score included.
        incomplete: names of those that lack runs.
        pooled: the scatter of the first runs of all.
    """

    members: int
    incomplete: frozenset[str]
    pooled: RunScatter | None = None


@dataclass(frozen=True)
class RankRange:
    """The ranks, 1 the best, that a method may have among ``of`` methods."""

    best: int
    worst: int
    of: int


def compare_all_pairs(
    cells: Mapping[str, RunScores],
    baselines: Collection[str] = (),
    race: RacedPairs | None = None,
) -> tuple[Pair, ...]:
    """Every pair, in the order of ``cells``; p-values corrected over all of them.

    So the probability of even one false claim is at most 5 %, however the best was found
    (:func:`~paretune.analysis.statistics.multiple_testing.all_pairs_correction`). Cross-validated
    cells are compared on the rows that both answered; a pair without any is left out.

    Args:
        cells: scores by name.
        baselines: names of those that are baselines
            (:mod:`paretune.analysis.statistics.differences`).
        race: how many cells the study has, and which lack runs; None without a race.

    Raises:
        StoreError: some answered different examples of one split.
    """
    pooled = race.pooled if race else pool_runs(cells, baselines)
    sides = {
        (a, b): on_common_rows(cells[a], cells[b])
        for a, b in combinations(cells, 2)
        if not set(cells[a].uid).isdisjoint(cells[b].uid)
    }
    terms = {names: estimate_variances(*pair, pooled) for names, pair in sides.items()}
    differences = {names: difference_interval(terms[names], *pair) for names, pair in sides.items()}
    members, absent = len(cells), 0
    if race is not None:
        members = max(members, race.members)
        absent = members * (members - 1) // 2 - len(differences)
        differences = {
            names: replace(difference, p=1.0) if race.incomplete & {*names} else difference
            for names, difference in differences.items()
        }
    corrected = all_pairs_correction(
        [*(d.p for d in differences.values()), *[1.0] * absent], members
    )
    # One-sided, for each of the others against the best.
    level = 2 * ALPHA / max(len(cells) - 1, 1)
    return tuple(
        Pair(
            *names,
            difference=difference,
            p_holm=p,
            mcnemar=mcnemar_test(*sides[names]),
            family=len(sides),
            bound=terms[names].half_width(level),
            terms=terms[names],
        )
        for (names, difference), p in zip(differences.items(), corrected, strict=False)
    )


def flip(pair: Pair) -> Pair:
    """The same pair as ``b`` minus ``a``."""
    old, exact = pair.difference, pair.mcnemar
    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        difference=replace(old, estimate=-old.estimate, low=-old.high, high=-old.low),
        mcnemar=exact and McNemar(exact.only_b, exact.only_a, exact.p),
    )


def rank_ranges(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, RankRange]:
    """The possible ranks of each method.

    A method's best rank is one more than the number of methods that are proven better, its worst
    rank the number of methods minus those that are proven worse. "Better" is transitively closed.
    Hence

    - two methods without a verdict always share at least one rank;
    - of two with one, the better method has the better best rank and the better worst rank;
    - with probability 95 % all true ranks lie in these ranges simultaneously, since the
      correction bounds the chance of any false claim, and true claims imply no false rank.

    It is the confidence set of ranks of Mogstad, Romano, Shaikh and Wilhelm (2024, Review of
    Economic Studies 91), with a step-down correction in place of their bootstrap.
    """
    index = {name: i for i, name in enumerate(names)}
    above = np.zeros((len(names), len(names)), dtype=bool)
    for pair in pairs:
        if pair.standing != "unclear":
            winner, loser = (pair.a, pair.b) if pair.standing == "above" else (pair.b, pair.a)
            above[index[winner], index[loser]] = True
    for through in range(len(names)):
        above |= above[:, [through]] & above[[through], :]
    return {
        name: RankRange(1 + int(above[:, i].sum()), len(names) - int(above[i].sum()), len(names))
        for name, i in index.items()
    }


def mcnemar_test(a: RunScores, b: RunScores) -> McNemar | None:
    """McNemar's exact test (1947) for one run on each side.

    It concerns accuracy, whatever the metric, and these two runs rather than their methods: the
    variance over seeds is not in it. None if a side has several seeds, if answers are no classes,
    or if examples depend on one another.
    """
    if len(a.tables) > 1 or len(b.tables) > 1 or a.credit is None or b.credit is None:
        return None
    if any(side.cluster or side.question for side in (a, b)):
        return None
    only_a = int(((a.credit > 0.5) & (b.credit < 0.5)).sum())
    only_b = int(((b.credit > 0.5) & (a.credit < 0.5)).sum())
    differing = only_a + only_b
    p = float(binomtest(only_a, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_a, only_b, p)


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
