"""How many seeds or test examples would decide an undecided pair, from the two variance parts.

The difference of two cells has the variance::

    se^2(S, n) = (s_a^2 + s_b^2) / S + v_examples * n_now / n

A pair counts as decided by S seeds (of either method) and n examples when a difference as large as
the one that was seen would be found with probability 0.8::

    reach(S, n, level) + t(0.8) se(S, n) <= |difference|

where ``smallest_clear_difference`` is the smallest difference that is clear
(:mod:`paretune.analysis.statistics.conservative_difference`), and
all degrees of freedom grow with S and n.
That is the usual planning of a paired trial (Cohen 1988). It takes the difference and the variances
for what they look like now: with few seeds both are guesses, and so is the number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import special

from paretune.analysis.statistics.conservative_difference import (
    VarianceTerm,
    smallest_clear_difference,
)
from paretune.analysis.statistics.paired_difference import ALPHA, shared_variance
from paretune.analysis.statistics.score_interval import BootstrapScore

POWER = 0.8
MAX_COUNT = 10**7
"""No more than this many seeds or examples are looked for."""


@dataclass(frozen=True)
class SampleSize:
    """What would decide a pair: this many seeds, or this many examples, or both together.

    Totals, not additions; None where no number alone would do, or where it cannot be known.
    ``seeds_now`` is what the side with fewer seeds has. ``varies``: seeds move something.
    ``blind``: one side has a single seed, so what seeds move is not known, ``seeds`` is None and
    ``examples`` is as if they moved nothing.
    """

    seeds_now: int
    examples_now: int
    seeds: int | None
    examples: int | None
    both: tuple[int, int] | None
    varies: bool
    blind: bool


def estimate_sample_size(
    a: BootstrapScore,
    b: BootstrapScore,
    deterministic: tuple[bool, bool] = (False, False),
    level: float = ALPHA,
) -> SampleSize:
    """What would decide whether ``a`` or ``b`` is better, if they differ as they seem to.

    Args:
        a: one side.
        b: the other, on the same examples.
        deterministic: which of them has nothing that is drawn, so that its one run says all.
        level: of the two-sided test; smaller where it is one of several.
    """
    gap = abs(a.estimate - b.estimate)
    drawn = [side for side, fixed in zip((a, b), deterministic, strict=True) if not fixed]
    several = [side for side in drawn if len(side.seeds) > 1]
    spreads = [float(side.seeds.var(ddof=1)) for side in several]
    now = [
        (v / len(side.seeds), len(side.seeds) - 1) for v, side in zip(spreads, several, strict=True)
    ]
    blind = len(several) < len(drawn)
    seeds_now = min((len(side.seeds) for side in drawn), default=1)
    units, shared = a.units, shared_variance(a, b)

    def enough(count: int | None, of_units: float) -> bool:
        """With ``count`` seeds (None: those of now) and ``of_units`` examples or clusters."""
        of_seeds = now if count is None else [(v / count, count - 1) for v in spreads]
        return _is_decided(gap, of_seeds, (shared * units / of_units, of_units - 1), level)

    seeds, both = None, None
    found = _search_smallest(lambda count: enough(None, count), max(units, 2))
    if spreads and not blind:
        seeds = _search_smallest(lambda count: enough(count, units), max(seeds_now, 2))
        if seeds is None and found is None:
            times = units / seeds_now
            factor = _search_smallest(lambda count: enough(count, times * count), max(seeds_now, 2))
            both = None if factor is None else (factor, round(len(a.uid) * factor / seeds_now))
    examples = None if found is None else round(found * len(a.uid) / units)
    return SampleSize(seeds_now, len(a.uid), seeds, examples, both, sum(spreads) > 0, blind)


def _is_decided(
    gap: float, seeds: Sequence[VarianceTerm], examples: VarianceTerm, level: float
) -> bool:
    parts = [*seeds, examples]
    total = sum(v for v, _ in parts)
    if gap <= 0 or total <= 0:
        return gap > 0
    freedom = total**2 / sum(v**2 / df for v, df in parts)
    power = float(special.stdtrit(freedom, POWER)) * total**0.5
    return bool(smallest_clear_difference(seeds, examples, level) + power <= gap)


def _search_smallest(enough: Callable[[int], bool], start: int) -> int | None:
    """The smallest number from ``start`` on that is enough; None where none up to MOST is."""
    if enough(start):
        return start
    low, high = start, 2 * start
    while not enough(high):
        if high > MAX_COUNT:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
