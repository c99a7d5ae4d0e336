"""How many seeds, test examples or cross-validated rows would decide a pair without a verdict.

A pair is decided where the interval of :mod:`paretune.analysis.statistics.differences`
excludes 0. With S seeds of each method and n examples the difference has the variance::

    (sigma_a^2 + sigma_b^2) / S + (rho_a + rho_b) n_now / (S n) + v n_now / n

``sigma^2`` between seeds, ``rho`` the noise of single answers in the score of one seed, ``v`` from
the examples. What is asked for finds a true difference of 5 points in 80 % of studies; a larger one
more often. It is not asked what would find the observed difference: one that is noticed is too
large on average, and what it asks for finds the true one in as few as half of the studies.

Variances are rough: those between seeds where seeds are few, that of the examples where most
answers agree and where noise of single answers was taken out of it. So each is drawn 500 times from
its scaled inverse chi-squared distribution and the power is averaged over the draws (assurance:
O'Hagan, Stevens and Campbell 2005, Pharmaceutical Statistics 4). A study that finds the opposite
direction does not count as decided.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from paretune.analysis.statistics.differences import (
    NO_PRIOR,
    SeedPrior,
    difference_terms,
    on_common_rows,
    shared_example_variance,
)
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.scores import BootstrapScore, TestDesign, bootstrap_variance

POWER = 0.8
FOUND_POINTS = 5.0
"""The true difference that is to be found, in hundredths of the metric's highest value."""
MAX_COUNT = 10**7
"""The search stops at this many seeds or examples."""
ONE_PASS = TestDesign(folds=5, repeats=1)

_DRAWS = 500
_SEED = 20_261_126


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


@dataclass(frozen=True)
class _OpenValues:
    """Variances as the data leave them open, (draws,), and what is known.

    Attributes:
        gap: true difference.
        between: of each side that has seeds, variances between its runs.
        noise: of single answers in the difference of two runs over the present examples.
        examples: variances of the difference that come from the present examples.
        row_noise: of each side that has seeds, the variance of one run's score over the present
            examples.
        prior: of the variance between seeds.
        level: of the test.
    """

    gap: float
    between: tuple[NDArray[Any], ...]
    noise: float
    examples: NDArray[Any]
    row_noise: tuple[float, ...]
    prior: SeedPrior
    level: float

    def power(self, seeds: int, growth: float, units: float) -> float:
        """Chance to decide with ``seeds`` and ``growth`` times the examples, in ``units``."""
        t_examples = float(special.stdtrit(max(units - 1, 1), 1 - self.level / 2))
        total = self.examples / growth
        half2 = t_examples**2 * total
        share = self.noise / max(len(self.between), 1) / growth
        if self.between:
            run_degrees = max(seeds - 1, 1)
            degrees = (1 + self.prior.weight_for(run_degrees)) * run_degrees
            parts = [(value + share) / seeds for value in self.between]
            seeded = np.sum(parts, axis=0)
            squares = np.sum([part**2 / degrees for part in parts], axis=0)
            freedom = np.divide(seeded**2, squares, out=np.ones(_DRAWS), where=squares > 0)
            half2 = half2 + special.stdtrit(freedom, 1 - self.level / 2) ** 2 * seeded
            total = total + seeded
        return self._share_decided(total, half2)

    def power_crossed(self, growth: float, units: float) -> float:
        """The same of one pass of cross-validation over ``growth`` times the present examples.

        Each row is answered once, so its noise stays with the rows. The variance between folds is
        drawn as it will be estimated, with the noise of its rows.
        """
        runs = ONE_PASS.runs
        rows = (self.examples + self.noise) / growth
        inflated = ONE_PASS.phi(math.ceil(units)) * rows
        total, estimated = rows, inflated
        error = inflated**2 / max(units - 1, 1)
        noises = [runs * noise / growth for noise in self.row_noise]
        prior = replace(self.prior, noise=float(np.mean(noises)) if noises else 0.0)
        weight = prior.weight_for(runs - 1)
        degrees = (1 + weight) * (runs - 1)
        chi2 = np.random.default_rng([_SEED, 1]).chisquare(runs - 1, (len(noises), _DRAWS))
        for value, noise, drawn in zip(self.between, noises, chi2 / (runs - 1), strict=True):
            estimated_variance = (value + noise) * drawn - noise
            moderated = np.maximum((weight * value + estimated_variance) / (weight + 1), 0.0)
            total = total + value / runs
            estimated = estimated + moderated / runs
            error = error + ((moderated + noise) / runs) ** 2 / degrees
        freedom = np.divide(estimated**2, error, out=np.ones(_DRAWS), where=error > 0)
        return self._share_decided(
            total, special.stdtrit(freedom, 1 - self.level / 2) ** 2 * estimated
        )

    def _share_decided(self, variance: NDArray[Any], half2: NDArray[Any]) -> float:
        # Without any variance every difference shows.
        error = np.maximum(np.sqrt(variance), 1e-12)
        return float(special.ndtr((self.gap - np.sqrt(half2)) / error).mean())


def estimate_sample_size(
    a: BootstrapScore,
    b: BootstrapScore,
    deterministic: tuple[bool, bool] = (False, False),
    level: float = ALPHA,
    *,
    prior: SeedPrior = NO_PRIOR,
    run_seconds: tuple[float | None, float | None] = (None, None),
) -> SampleSize:
    """What would decide whether ``a`` or ``b`` is better, if they truly differ by 5 points.

    Args:
        a: one side.
        b: the other, on the same examples.
        deterministic: which of them does not depend on the seed, so that one run is enough.
        level: of the two-sided test; smaller where it is one of several.
        prior: of the variance between seeds.
        run_seconds: what a run of each takes.
    """
    a, b = on_common_rows(a, b)
    units = a.units
    seeded = [side for side, fixed in zip((a, b), deterministic, strict=True) if not fixed]
    repeated = [side for side in seeded if side.run_degrees > 0]
    blind = len(repeated) < len(seeded)
    seeds_now = min((side.runs for side in seeded), default=1)
    values = _draw_open_values(a, b, repeated, level, prior)
    folded = a.design.is_cross_validation

    def decides(seeds: int, number: float) -> bool:
        if folded:
            return values.power_crossed(number / units, number) >= POWER
        return values.power(seeds, number / units, number) >= POWER

    more_units = _search_smallest(lambda count: decides(seeds_now, count), max(units, 2))
    seeds, both = None, None
    if repeated and not blind and not folded:
        seeds = _search_smallest(lambda count: decides(count, units), max(seeds_now, 2))
        if seeds is None and more_units is None:
            ratio = units / seeds_now
            factor = _search_smallest(
                lambda count: decides(count, ratio * count), max(seeds_now, 2)
            )
            both = None if factor is None else (factor, round(len(a.uid) * factor / seeds_now))
    rows = None
    if not folded and not blind:
        rows = _search_smallest(
            lambda count: values.power_crossed(count / units, count) >= POWER, 10
        )
    rows_per_unit = len(a.uid) / units
    timed = [s for s, fixed in zip(run_seconds, deterministic, strict=True) if not fixed]
    timings = [s for s in timed if s is not None]
    return SampleSize(
        seeds_now=seeds_now,
        examples_now=len(a.uid),
        seeds=seeds,
        examples=None if more_units is None else round(more_units * rows_per_unit),
        both=both,
        varies=any(len(set(side.seeds.tolist())) > 1 for side in repeated),
        blind=blind,
        cross_validated_rows=None if rows is None else round(rows * rows_per_unit),
        seconds=sum(timings) * (seeds - seeds_now)
        if seeds is not None and len(timings) == len(timed)
        else None,
    )


def _draw_open_values(
    a: BootstrapScore,
    b: BootstrapScore,
    repeated: list[BootstrapScore],
    level: float,
    prior: SeedPrior,
) -> _OpenValues:
    terms = difference_terms(a, b, prior)
    rng = np.random.default_rng(_SEED)
    noise, between, row_noise = 0.0, [], []
    for side in repeated:
        moderated, degrees = prior.moderate(side)
        # Across folds the noise of single answers is with the rows, not between runs.
        answers = 0.0 if side.fold_scores is not None else side.residual_variance * side.runs
        noise += answers
        drawn = moderated * side.runs * degrees / rng.chisquare(degrees, _DRAWS)
        between.append(np.maximum(drawn - answers, 0.0))
        seeds = len(side.seeds)
        single = bootstrap_variance(side, side.draws) + (seeds - 1) * side.residual_variance
        row_noise.append(single)
    examples = _draw_example_variances(a, b, terms.examples[0], rng)
    gap = FOUND_POINTS * a.highest / 100
    return _OpenValues(gap, tuple(between), noise, examples, tuple(row_noise), prior, level)


def _draw_example_variances(
    a: BootstrapScore, b: BootstrapScore, used: float, rng: np.random.Generator
) -> NDArray[Any]:
    """What the examples' part of the variance may be, (draws,), where ``used`` is its estimate.

    The variance of n differences has 2 n / (kurtosis - 1) degrees of freedom, few where nearly all
    answers agree. What noise is taken out of it leaves its error as it was, so a share r of it that
    remains has r^2 times as many (Satterthwaite 1946).
    """
    variance = used / max(side.design.phi(side.units) for side in (a, b))
    degrees = float(max(a.units - 1, 1))
    if a.credit is not None and b.credit is not None:
        delta = a.credit - b.credit - np.mean(a.credit - b.credit)
        second = float(np.mean(delta**2))
        if second > 0:
            kurtosis = float(np.mean(delta**4)) / second**2
            degrees = min(degrees, 2 * len(delta) / max(kurtosis - 1, 1e-9))
    whole = shared_example_variance(a, b)
    if whole > 0:
        degrees *= min(variance / whole, 1.0) ** 2
    degrees = max(degrees, 1.0)
    return np.asarray(variance * degrees / rng.chisquare(degrees, _DRAWS))


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
