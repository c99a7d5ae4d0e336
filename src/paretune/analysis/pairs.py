"""Compares all pairs of scores of one task, corrected for one another, and ranks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.special import bdtr

from paretune.analysis.statistics.differences import (
    Estimate,
    RunScatter,
    estimate_variances,
    on_common_rows,
)
from paretune.analysis.statistics.intervals import Interval, difference_interval
from paretune.analysis.statistics.multiple_testing import (
    ALPHA,
    all_pairs_correction,
    correct_for_looks,
    dunnett_correction,
    level_of_look,
)
from paretune.analysis.statistics.scores import RunScores
from paretune.analysis.statistics.unlabelled import Covariate, correct_estimate

Standing = Literal["above", "unclear", "below"]
Withheld = Literal["", "one run", "few folds", "failures", "unfinished"]
"""Why a pair may not be decided: a side has one run; fewer than three folds have trained runs of
both sides; failures outweigh a higher score; or a side lacks runs of a study judged at its end."""
MIN_FOLDS = 3
"""The fewest common folds with which a pair may be decided."""
Names = tuple[str, str]
"""The names of a pair's cells."""
Correction = Callable[[Mapping[Names, float]], Mapping[Names, tuple[float, int]]]
"""A function from the p-values of pairs to corrected ones, each with the size of its family."""
Covary = Callable[[str, str, tuple[RunScores, RunScores]], Covariate | None]
"""A function from two cells and their scores on common rows to the difference's covariate."""


@dataclass(frozen=True)
class McNemar:
    """Numbers of examples that only one of two runs answers correctly, and the exact p-value."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Pair:
    """The difference ``a`` minus ``b``, paired on the same examples, of runs that trained.

    Attributes:
        a: name of one cell.
        b: name of the other cell.
        difference: uncorrected difference with its interval.
        estimate: the difference with its variance.
        p_holm: p-value corrected over the ``family``.
        family: number of claims over which it is corrected: pairs, or methods that are each
            compared with all baselines.
        looks: number of looks at which it may be claimed, for which its corrected p-value pays.
        reference: whether the family is "better than the reference", whose p-values are one-sided.
        mcnemar: exact test of two single runs.
        withheld: why there is no verdict, whatever the p-value.
    """

    a: str
    b: str
    difference: Interval
    estimate: Estimate
    p_holm: float
    family: int = 1
    mcnemar: McNemar | None = None
    withheld: Withheld = ""
    reference: bool = False
    looks: int = 1

    @property
    def level(self) -> float:
        """The level of a two-sided test of this pair alone that claims no more than its family."""
        level = min((2 if self.reference else 1) * ALPHA / self.family, 0.5)
        return level_of_look(level, self.looks)

    @property
    def corrected(self) -> Interval:
        """The difference with the interval of the verdict: 0 is inside it where nothing is proven.

        Its level is 0.05 divided by what the p-value was multiplied by, or by the size of the
        family where the corrected p-value is 1.
        """
        alone, widest = self.difference, self.difference.highest
        if alone.p <= 0:
            return alone
        level = ALPHA * alone.p / self.p_holm if self.p_holm < 1 else self.level
        half = self.estimate.half_width(level)
        if not self.reference:
            half = max(half, alone.estimate - alone.low, alone.high - alone.estimate)
        low, high = alone.estimate - half, alone.estimate + half
        return replace(alone, low=max(low, -widest), high=min(high, widest))

    @property
    def standing(self) -> Standing:
        """Whether ``a`` is better or worse: proven if the corrected p-value is under 0.05."""
        if self.withheld or self.p_holm >= ALPHA:
            return "unclear"
        return "above" if self.difference.estimate > 0 else "below"

    def flip(self) -> Pair:
        """Return the pair ``b`` minus ``a``."""
        gap, exact = self.difference, self.mcnemar
        residuals = self.estimate.residuals
        if residuals is not None:
            residuals = -residuals
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=replace(gap, estimate=-gap.estimate, low=-gap.high, high=-gap.low),
            estimate=replace(self.estimate, value=-self.estimate.value, residuals=residuals),
            mcnemar=exact and McNemar(exact.only_b, exact.only_a, exact.p),
        )


@dataclass(frozen=True)
class RankRange:
    """The ranks that a method may have.

    Attributes:
        best: best possible rank; 1 is the best of all.
        worst: worst possible rank.
        of: number of methods.
    """

    best: int
    worst: int
    of: int


def compare_all_pairs(
    scores: Mapping[str, RunScores],
    scatters: Mapping[str, RunScatter],
    correct: Correction | None = None,
    looks: int = 1,
    covary: Covary | None = None,
) -> Iterable[Pair]:
    """Compare every pair, in the order of ``scores``.

    Cross-validated cells are compared on the rows that both answered; a pair without common rows is
    left out.

    Args:
        scores: scores by name.
        scatters: moderated scatter of the runs of each.
        correct: corrects p-values; by default over all pairs, so that the probability of even one
            false claim is at most 5 %, however the best was found.
        looks: number of looks at which a pair may be claimed.
        covary: returns the covariates by which unlabelled rows correct the differences.

    Raises:
        StoreError: some cells answered different examples of one split.
    """
    sides = {
        (a, b): on_common_rows(scores[a], scores[b])
        for a, b in combinations(scores, 2)
        if not set(scores[a].uid).isdisjoint(scores[b].uid)
    }
    estimates, differences = {}, {}
    withheld: dict[Names, Withheld] = {}
    for names, pair in sides.items():
        of_runs = [scatters.get(name) for name in names]
        estimates[names] = estimate_variances(*pair, of_runs)
        if covary is not None and (covariate := covary(*names, pair)) is not None:
            estimates[names] = correct_estimate(estimates[names], *pair, covariate)
        differences[names] = difference_interval(estimates[names], *pair)
        # Count the folds in which both sides trained, where any side scatters.
        folds = min((side.runs for side in pair if side.folds is not None), default=math.inf)
        withheld[names] = "few folds" if folds < MIN_FOLDS else ""
    p_values = {
        names: 1.0 if withheld[names] else correct_for_looks(difference.p, looks)
        for names, difference in differences.items()
    }
    corrected = (correct or correct_all_pairs)(p_values)
    for names, difference in differences.items():
        exact = mcnemar_test(*sides[names])
        estimate, reason = estimates[names], withheld[names]
        yield Pair(*names, difference, estimate, *corrected[names], exact, reason, looks=looks)


def correct_against_reference(
    pairs: Sequence[Pair], scores: Mapping[str, RunScores], reference: str
) -> dict[str, float]:
    """Compute corrected one-sided p-values of "better than the reference", by name.

    Args:
        pairs: pairs of each compared method minus the reference.
        scores: scores by name.
        reference: name of the reference.
    """
    one_sided = []
    for pair in pairs:
        half = correct_for_looks(pair.difference.p, pair.looks) / 2
        p = half if pair.difference.estimate > 0 else 1 - half
        one_sided.append(1.0 if pair.withheld else p)
    # Map the first row's identifier of each unit to the unit's part of the difference.
    rows: list[dict[str, float]] = []
    for pair in pairs:
        a, b = on_common_rows(scores[pair.a], scores[reference])
        differences = a.values.mean(axis=0) - b.values.mean(axis=0)
        if pair.estimate.residuals is not None:
            differences = pair.estimate.residuals
        rows.append(dict(zip(a.unit_uids, differences.tolist(), strict=True)))
    correlation = np.eye(len(pairs))
    for i, j in combinations(range(len(pairs)), 2):
        shares = (1 - pairs[i].estimate.run_share) * (1 - pairs[j].estimate.run_share)
        common = [uid for uid in rows[i] if uid in rows[j]]
        first, second = ([side[uid] for uid in common] for side in (rows[i], rows[j]))
        if len(common) > 2 and np.ptp(first) > 0 and np.ptp(second) > 0:
            # Runs are taken to add independent noise, which claims less.
            of_rows = float(np.corrcoef(first, second)[0, 1]) * shares**0.5
            correlation[i, j] = correlation[j, i] = of_rows
    corrected = dunnett_correction(one_sided, correlation)
    return {pair.a: p for pair, p in zip(pairs, corrected, strict=True)}


def correct_all_pairs(p_values: Mapping[Names, float]) -> dict[Names, tuple[float, int]]:
    """Correct p-values of pairs that are one family; return its size too.

    Args:
        p_values: p-values by the names of two cells.
    """
    members = len({name for names in p_values for name in names})
    values = all_pairs_correction([*p_values.values()], members)
    return {names: (p, len(p_values)) for names, p in zip(p_values, values, strict=True)}


def rank_ranges(names: Sequence[str], pairs: Iterable[Pair]) -> dict[str, RankRange]:
    """Compute the possible ranks of each method.

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
    """Compute McNemar's exact test (1947) for one run on each side.

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
    # Two-sided: twice the smaller tail, because the distribution is symmetric.
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    return McNemar(only_a, only_b, p)
