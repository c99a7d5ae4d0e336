"""How many seeds, test examples or cross-validated rows would decide a pair without a verdict.

Asked is what finds a true difference of 5 points in 80 % of studies, with the variances as they
were estimated (:mod:`paretune.analysis.statistics.differences`); not what would find the observed
difference: one that is noticed is too large on average, and what it asks for finds the true one in
as few as half of the studies. With S seeds of each method and g times the rows the variance is::

    (v + (noise_a + noise_b) / S) / g + (sigma_a^2 + sigma_b^2) / S

``sigma^2`` between seeds without the noise of single answers, ``v`` from the rows. Power is that of
a t test (Cohen 1988) with Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

from paretune.analysis.statistics.differences import (
    ROW_FACTOR,
    Estimate,
    RunScatter,
    VariancePart,
    estimate_variances,
    on_common_rows,
)
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import RunScores, TestDesign

POWER = 0.8
FOUND_POINTS = 5.0
"""The true difference that is to be found, in hundredths of the metric's highest value."""
MAX_COUNT = 10**7
"""The search stops at this many seeds or examples."""
ONE_PASS = TestDesign(folds=5, repeats=1)


@dataclass(frozen=True)
class SampleSize:
    """What would decide a pair: this many seeds, or this many examples, or both together.

    Numbers are totals, not additions; None where no number would do, or where it is unknown.

    Attributes:
        seeds_now: seeds of the side that has fewer; under cross-validation its runs.
        examples_now: test examples.
        seeds: seeds of each side that decide it with the present examples.
        examples: examples that decide it with the present seeds.
        both: (seeds, examples) that decide it where neither alone does.
        varies: scores differ between seeds.
        blind: one side has a single seed, so the variance over seeds is unknown: ``seeds`` is
            None, and ``examples`` is computed as if there were none.
        cross_validated_rows: labelled rows that decide it by outer cross-validation in 5 runs.
        seconds: of the runs that ``seeds`` adds, where runs were timed.
    """

    seeds_now: int
    examples_now: int
    seeds: int | None
    examples: int | None
    both: tuple[int, int] | None
    varies: bool
    blind: bool
    cross_validated_rows: int | None = None
    seconds: float | None = None


def estimate_sample_size(
    a: RunScores,
    b: RunScores,
    deterministic: tuple[bool, bool] = (False, False),
    level: float = ALPHA,
    *,
    pooled: RunScatter | None = None,
    run_seconds: tuple[float | None, float | None] = (None, None),
) -> SampleSize:
    """What would decide whether ``a`` or ``b`` is better, if they truly differ by 5 points.

    Args:
        a: one side.
        b: the other, on the same examples.
        deterministic: which of them does not depend on the seed, so that one run is enough.
        level: of the two-sided test; smaller where it is one of several.
        pooled: what the other cells say of the scatter of runs.
        run_seconds: what a run of each takes.
    """
    a, b = on_common_rows(a, b)
    crossed = a.design.is_cross_validation
    seeded = [side for side, fixed in zip((a, b), deterministic, strict=True) if not fixed]
    repeated = [side for side in seeded if side.run_degrees > 0]
    blind, units = len(repeated) < len(seeded), a.units
    seeds_now = min((side.runs for side in seeded), default=1)
    estimate, gap = estimate_variances(a, b, pooled), FOUND_POINTS * a.highest / 100
    rows, *runs = (variance for variance, _ in estimate.parts)
    noises = [] if crossed else [side.noise_variance * side.runs for side in repeated]
    between = [
        max(run * side.runs - noise, 0.0)
        for run, side, noise in zip(runs, repeated, noises, strict=False)
    ]
    lent = 2 if pooled else 1
    methods = pooled.degrees / max(seeds_now - 1, 1) if pooled else 2.0

    def decides(
        estimated: float, parts: tuple[VariancePart, ...], variance: float | None = None
    ) -> bool:
        return _power(Estimate(gap, estimated, parts), variance or estimated, level) >= POWER

    def decides_split(seeds: int, count: float) -> bool:
        growth = count / units
        by_run = [
            ((sigma + noise / growth) / seeds, lent * max(seeds - 1.0, 1.0))
            for sigma, noise in zip(between, noises, strict=True)
        ]
        by_row = rows / growth, max(count - 1.0, 1.0)
        return decides(by_row[0] + sum(v for v, _ in by_run), (by_row, *by_run))

    def decides_crossed(count: float) -> bool:
        growth = count / units
        if crossed:
            single, by_run = rows / growth / ROW_FACTOR, estimate.variance - rows
            degrees = estimate.parts[-1][1] if by_run > 0 else math.inf
        else:
            single, by_run = (rows + sum(noises)) / growth, sum(between) / ONE_PASS.folds
            degrees = max(methods - 1, 1.0) * (ONE_PASS.folds - 1)
        variance = single + by_run
        # What the interaction exceeds the rows by is never negative: more than by_run on average.
        noise = variance * (2 / degrees) ** 0.5
        z = by_run / noise if noise > 0 else 0.0
        excess = by_run * special.ndtr(z) + noise * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        by_row = ROW_FACTOR * single, max(count - 1.0, 1.0)
        interaction = single + excess, degrees
        return decides(by_row[0] + excess, (by_row, interaction), variance)

    rows_per_unit = len(a.uid) / units
    deciding_units = _search_smallest(
        lambda count: decides_crossed(count) if crossed else decides_split(seeds_now, count),
        max(units, 2),
    )
    examples = None if deciding_units is None else round(deciding_units * rows_per_unit)
    seeds, both, crossed_rows = None, None, None
    if repeated and not blind and not crossed:
        seeds = _search_smallest(lambda count: decides_split(count, units), max(seeds_now, 2))
        if seeds is None and examples is None:
            ratio = units / seeds_now
            count = _search_smallest(lambda n: decides_split(n, ratio * n), max(seeds_now, 2))
            both = None if count is None else (count, round(len(a.uid) * count / seeds_now))
    if not crossed and not blind:
        count = _search_smallest(decides_crossed, 10)
        crossed_rows = None if count is None else round(count * rows_per_unit)
    timed = [s for s, fixed in zip(run_seconds, deterministic, strict=True) if not fixed]
    timings = [s for s in timed if s is not None]
    return SampleSize(
        seeds_now=seeds_now,
        examples_now=len(a.uid),
        seeds=seeds,
        examples=examples,
        both=both,
        varies=any(len(set(side.seeds.tolist())) > 1 for side in repeated),
        blind=blind,
        cross_validated_rows=crossed_rows,
        seconds=sum(timings) * (seeds - seeds_now)
        if seeds is not None and len(timings) == len(timed)
        else None,
    )


def _power(estimate: Estimate, variance: float, level: float) -> float:
    """How often a difference is found that has this true ``variance``."""
    from statsmodels.stats.power import TTestPower

    if variance <= 0:
        return 1.0
    freedom = min(estimate.freedom, 1e4)
    # A variance that is estimated larger than it is makes the test stricter.
    t = special.stdtrit(freedom, 1 - level / 2) * math.sqrt(estimate.variance / variance)
    stricter = 2 * float(special.stdtr(freedom, -t))
    return float(TTestPower().power(estimate.value / variance**0.5, 1, stricter, df=freedom))


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
