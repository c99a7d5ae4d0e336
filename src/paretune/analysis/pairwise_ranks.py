"""All pairs of methods on one model and task, and the ranks that follow from clear differences."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import binomtest

from paretune.analysis.baseline_comparison import Standing, standing_of
from paretune.analysis.statistics.bootstrap_score import BootstrapScore
from paretune.analysis.statistics.conservative_difference import conservative_difference
from paretune.analysis.statistics.multiple_testing import holm_correction
from paretune.analysis.statistics.score_interval import Interval


@dataclass(frozen=True)
class McNemar:
    """Examples that only one of two runs answers correctly, and the exact p-value."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Pair:
    """``a`` minus ``b``, paired on the same examples; ``p_holm`` is over ``family`` pairs."""

    a: str
    b: str
    difference: Interval
    p_holm: float
    mcnemar: McNemar | None
    family: int = 1

    @property
    def standing(self) -> Standing:
        """Whether ``a`` is above or below ``b``: clear if the corrected p-value is under 0.05."""
        return standing_of(self.difference, self.p_holm)


@dataclass(frozen=True)
class RankRange:
    """The ranks, 1 the best, that a method may have among ``of`` methods."""

    best: int
    worst: int
    of: int


def compare_all_pairs(
    cells: Mapping[str, BootstrapScore], family: Callable[[str, str], Hashable] = lambda *_: None
) -> tuple[Pair, ...]:
    """Every pair, in the order of ``cells``; p-values corrected within each family (Holm 1979).

    So the probability of even one false claim in a family is at most 5 %; also with few seeds, for
    which the p-values are conservative
    (:mod:`paretune.analysis.statistics.conservative_difference`).

    Args:
        cells: scores by name.
        family: pairs with the same value are corrected together; all of them by default.

    Raises:
        StoreError: some answered different examples.
    """
    names = list(combinations(cells, 2))
    differences = [conservative_difference(cells[a], cells[b]) for a, b in names]
    families: dict[Hashable, list[int]] = {}
    for i, (a, b) in enumerate(names):
        families.setdefault(family(a, b), []).append(i)
    corrected: dict[int, tuple[float, int]] = {}
    for members in families.values():
        p_holm = holm_correction([differences[i].p for i in members])
        corrected |= {i: (p, len(members)) for i, p in zip(members, p_holm, strict=True)}
    return tuple(
        Pair(
            a,
            b,
            difference=differences[i],
            p_holm=corrected[i][0],
            mcnemar=mcnemar_test(cells[a], cells[b]),
            family=corrected[i][1],
        )
        for i, (a, b) in enumerate(names)
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
    """The possible ranks of each method; methods without a clear difference share at least one.

    A method's best rank is one more than the number of methods that are clearly above it, its worst
    rank the number of methods minus those that are clearly below it. "Clearly above" is
    transitively closed. Hence

    - two methods without a clear difference always share at least one rank;
    - of two with one, the better method has the better best rank and the better worst rank;
    - with probability 95 % all true ranks lie in these ranges simultaneously, since Holm's
      correction bounds the chance of any false claim, and true claims imply no false rank.

    It is the confidence set of ranks of Mogstad, Romano, Shaikh and Wilhelm (2024, Review of
    Economic Studies 91), with Holm's correction in place of their bootstrap.
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


def mcnemar_test(a: BootstrapScore, b: BootstrapScore) -> McNemar | None:
    """McNemar's exact test (1947) for one run on each side.

    It concerns accuracy, whatever the metric, and these two runs rather than their methods: the
    variance over seeds is not in it. None if a side has several seeds, if answers are no classes,
    or if examples depend on one another.
    """
    if len(a.seeds) > 1 or len(b.seeds) > 1 or a.credit is None or b.credit is None:
        return None
    if any(side.cluster or side.question for side in (a, b)):
        return None
    only_a = int(((a.credit > 0.5) & (b.credit < 0.5)).sum())
    only_b = int(((b.credit > 0.5) & (a.credit < 0.5)).sum())
    differing = only_a + only_b
    p = float(binomtest(only_a, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_a, only_b, p)
