"""How many seeds or test examples would decide an undecided pair, from its two variances.

The difference of two cells has the variance::

    se^2(S, n) = (s_a^2 + s_b^2) / S + v_examples * n_now / n

S seeds (of each method) and n examples decide a pair if a difference as large as the observed one
would be detected with power 0.8::

    smallest_clear_difference(S, n, level) + t(0.8) se(S, n) <= |difference|

(:mod:`paretune.analysis.statistics.score_difference`), where all degrees of freedom grow
with S and n. This is the usual planning of a paired trial (Cohen 1988). It takes the observed
difference and variances for the true ones; with few seeds both are rough, and so is the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import special

from paretune.analysis.statistics.bootstrap_score import BootstrapScore
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.score_difference import (
    DifferenceTerms,
    VarianceTerm,
    difference_terms,
)

POWER = 0.8
MAX_COUNT = 10**7
"""The search stops at this many seeds or examples."""


@dataclass(frozen=True)
class SampleSize:
    """What would decide a pair: this many seeds, or this many examples, or both together.

    Numbers are totals, not additions; None where no number would do, or where it is unknown.

    Attributes:
        seeds_now: seeds of the side that has fewer.
        examples_now: test examples.
        seeds: seeds of each side that decide it with the present examples.
        examples: examples that decide it with the present seeds.
        both: (seeds, examples) that decide it where neither alone does.
        varies: scores differ between seeds.
        blind: one side has a single seed, so the variance over seeds is unknown: ``seeds`` is
            None, and ``examples`` is computed as if there were none.
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
    """What would decide whether ``a`` or ``b`` is better, if they differ as observed.

    Args:
        a: one side.
        b: the other, on the same examples.
        deterministic: which of them does not depend on the seed, so that one run is enough.
        level: of the two-sided test; smaller where it is one of several.
    """
    gap = abs(a.estimate - b.estimate)
    seeded = [side for side, fixed in zip((a, b), deterministic, strict=True) if not fixed]
    repeated = [side for side in seeded if side.run_degrees > 0]
    variances = [max(side.run_variance, 0.0) for side in repeated]
    seed_terms_now = [(side.seed_variance, float(side.run_degrees)) for side in repeated]
    blind = len(repeated) < len(seeded)
    seeds_now = min((side.runs for side in seeded), default=1)
    units, shared = a.units, difference_terms(a, b).examples[0]

    def decides(num_seeds: int | None, num_units: float) -> bool:
        """Whether ``num_seeds`` (None: the present ones) and ``num_units`` decide the pair."""
        seed_terms = seed_terms_now
        if num_seeds is not None:
            seed_terms = [(v / num_seeds, num_seeds - 1) for v in variances]
        return _is_decided(gap, seed_terms, (shared * units / num_units, num_units - 1), level)

    seeds, both = None, None
    more_units = _search_smallest(lambda count: decides(None, count), max(units, 2))
    if variances and not blind:
        seeds = _search_smallest(lambda count: decides(count, units), max(seeds_now, 2))
        if seeds is None and more_units is None:
            ratio = units / seeds_now
            factor = _search_smallest(
                lambda count: decides(count, ratio * count), max(seeds_now, 2)
            )
            both = None if factor is None else (factor, round(len(a.uid) * factor / seeds_now))
    examples = None if more_units is None else round(more_units * len(a.uid) / units)
    return SampleSize(seeds_now, len(a.uid), seeds, examples, both, sum(variances) > 0, blind)


def _is_decided(
    gap: float, seeds: Sequence[VarianceTerm], examples: VarianceTerm, level: float
) -> bool:
    terms = [*seeds, examples]
    total = sum(v for v, _ in terms)
    if gap <= 0 or total <= 0:
        return gap > 0
    freedom = total**2 / sum(v**2 / df for v, df in terms)
    power = float(special.stdtrit(freedom, POWER)) * total**0.5
    return bool(DifferenceTerms(gap, tuple(seeds), examples).half_width(level) + power <= gap)


def _search_smallest(is_enough: Callable[[int], bool], start: int) -> int | None:
    """The smallest number from ``start`` that is enough; None if none up to MAX_COUNT is."""
    if is_enough(start):
        return start
    low, high = start, 2 * start
    while not is_enough(high):
        if high > MAX_COUNT:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
