"""The variance of a score, or of the difference of two scores: one rule for both designs.

A difference is paired: D has a value for each row (cluster, question) that both answered, the mean
over runs of the jackknife values of one side less those of the other. S runs a side, n rows::

    V = rows' part + s_a^2 / S_a + s_b^2 / S_b

**One split** (quasi-F: Clark 1973, Journal of Verbal Learning and Verbal Behavior 12). The rows'
part is ``var(D) / n`` less the noise of single answers, which neither the run nor the row explains:
it is in s^2 too and is counted once. At least a quarter stays. ``s^2`` is between the seeds of a
method.

**Outer cross-validation** (randomised blocks). Each row is answered by a run that has not seen it,
so ``var(D) / n`` has what runs scatter by within it. ``ROW_FACTOR`` less 1 of what one pass has is
added for what all folds share, above all most of their training rows. Repeats share it too: with
several passes ``var(D)`` is of the means over them, and falls, but what is added stays that of one
(Nadeau and Bengio 2003; Bouckaert and Frank 2004). ``s^2`` is what the fold scores of a method
scatter by beyond their rows, against those of all others: each pair of cells has a variance between
folds of its difference, and that of cell i is fitted to them (Grubbs 1948, JASA 43)::

    variance between folds of D_ij - its rows ~ s_i^2 + s_j^2        (least squares)

**Moderation.** Each method's ``s^2`` is drawn towards the mean of all that are fine-tuned, with
``PRIOR_DEGREES`` of freedom (Smyth 2004, Statistical Applications in Genetics 3): runs that agree
by chance do not look certain, an unsteady method keeps its scatter, and no method pays for it.

Satterthwaite's degrees of freedom (1946): V^2 over the sum of each part squared over its own, n - 1
of rows, S - 1 of runs plus the prior's. Under cross-validation the parts of runs are counted with
the rows in them, also where the rows explain all that folds scatter by: little scatter in a few
folds buys no certainty. With k cells a fold gives (k - 1) / k degrees to each.

A score alone is the difference to nothing, with its own scatter between seeds or folds. Equal
answers prove little: the rows' part is at least what imaginary rows would leave, two right and two
wrong of a score (Agresti and Coull 1998), half a pair won and half a pair lost of a difference
(Agresti and Min 2005).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy import special

from paretune.analysis.statistics.scores import RunScores, check_paired
from paretune.metrics import Array

ROW_FACTOR = 1.2
"""Factor of the variance of rows in one pass: 1.20 [0.32, 2.04], bench/row_factor.py."""
PRIOR_DEGREES = 1.0
"""Degrees of freedom with which the scatter of each method is drawn towards the mean of all."""

VariancePart = tuple[float, float]
"""A variance and its degrees of freedom."""


@dataclass(frozen=True)
class Estimate:
    """A score or a difference, with its variance.

    Attributes:
        value: value of the score or the difference.
        variance: variance of the value.
        parts: variances as they were estimated, with their degrees of freedom; the first is that of
            the rows. Under cross-validation those of runs include rows.
        run_share: share of the variance that comes from runs.
        row_ratio: the rows' variance over what it was before unlabelled rows corrected it.
        unlabelled: number of unlabelled rows (:mod:`paretune.analysis.statistics.unlabelled`).
        residuals: (units,): a unit's part of a corrected difference; None for other estimates.
    """

    value: float
    variance: float
    parts: tuple[VariancePart, ...]
    run_share: float = 0.0
    row_ratio: float = 1.0
    unlabelled: int = 0
    residuals: Array | None = field(default=None, repr=False, compare=False)

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of the variance; 0 where a part has none."""
        if any(v > 0 and degrees <= 0 for v, degrees in self.parts):
            return 0.0
        error = sum(v**2 / degrees for v, degrees in self.parts if v > 0)
        return self.variance**2 / error if error > 0 else math.inf

    def half_width(self, level: float) -> float:
        """Return half the width of the interval of two-sided level ``level``, for example 0.05."""
        if self.parts[0][1] < 1:
            return math.inf
        if self.variance <= 0:
            return 0.0
        return float(special.stdtrit(self.freedom, 1 - level / 2)) * math.sqrt(self.variance)

    def weighted_half_width(self, level: float) -> float:
        """Return a :meth:`half_width`, wider where few runs may agree by chance; for one split.

        The quantile is the mean of the parts' Student quantiles, weighted by their variances
        (Cochran and Cox 1950, "Experimental Designs", section 4.14).
        """
        if self.parts[0][1] < 1 or self.variance <= 0:
            return self.half_width(level)
        quantiles = (v * float(special.stdtrit(f, 1 - level / 2)) for v, f in self.parts if v > 0)
        return sum(quantiles) / math.sqrt(self.variance)

    def p_value(self) -> float:
        """Compute the two-sided p-value against no difference."""
        if self.parts[0][1] < 1:
            return 1.0
        if self.variance <= 0:
            return float(self.value == 0)
        t = abs(self.value) / math.sqrt(self.variance)
        return 2 * float(special.stdtr(self.freedom, -t))


@dataclass(frozen=True)
class RunScatter:
    """The scatter of single runs of a cell.

    Attributes:
        variance: variance of the score of one run; under cross-validation beyond what its rows
            explain, where it may be negative.
        degrees: degrees of freedom of the variance.
    """

    variance: float
    degrees: float


def moderate_scatters(
    scores: Mapping[str, RunScores], lenders: Mapping[str, RunScores]
) -> dict[str, RunScatter]:
    """Estimate the scatter of runs of the cells of one task and model, by name.

    Args:
        scores: scores of the cells; under one split those with a single run are left out.
        lenders: cells towards whose mean all are drawn. A linear probe is steadier than a
            fine-tuned model, so baselines are not lenders.
    """
    scatters = _estimate_scatters(scores)
    lent = [*_estimate_scatters(lenders).values()] if lenders else []
    if not lent:
        return scatters
    centre = max(float(np.mean([scatter.variance for scatter in lent])), 0.0)
    prior = PRIOR_DEGREES * (1 - 1 / len(lent))
    return {
        name: RunScatter(
            (prior * centre + scatter.degrees * scatter.variance) / (prior + scatter.degrees),
            prior + scatter.degrees,
        )
        for name, scatter in scatters.items()
        if prior + scatter.degrees > 0
    }


def _estimate_scatters(scores: Mapping[str, RunScores]) -> dict[str, RunScatter]:
    """Estimate the scatter of each cell from its runs.

    Under cross-validation it is the scatter between folds beyond its rows, fitted to that of all
    pairs.
    """
    if not any(score.design.is_cross_validation for score in scores.values()):
        return {
            name: RunScatter(score.run_variance, score.run_degrees)
            for name, score in scores.items()
            if score.run_degrees > 0
        }
    places = {name: place for place, name in enumerate(scores)}
    pairs: list[tuple[int, int]] = []
    excesses: list[float] = []
    rows: list[float] = []
    degrees: list[float] = []
    for a, b in combinations(scores, 2):
        if set(scores[a].uid).isdisjoint(scores[b].uid):
            continue
        difference = _difference_by_fold(*on_common_rows(scores[a], scores[b]))
        if difference is not None:
            scatter, of_rows = difference
            pairs.append((places[a], places[b]))
            excesses.append(scatter.variance - of_rows)
            rows.append(of_rows)
            degrees.append(scatter.degrees)
    if not pairs:
        return {}
    design, index = np.zeros((len(pairs), len(places))), np.array(pairs)
    for side in index.T:
        design[np.arange(len(pairs)), side] = 1
    # The error of a variance grows with it: pairs that share few rows are poor evidence.
    usual = max(float(np.median(rows)), 1e-12)
    weights = np.sqrt(degrees) / np.maximum(rows, usual / 10)
    fitted = np.linalg.lstsq(weights[:, None] * design, weights * np.array(excesses))[0]
    scatters = {}
    for name, place in places.items():
        by_pair = [d for pair, d in zip(pairs, degrees, strict=True) if place in pair]
        if by_pair:
            variance = max(float(fitted[place]), -usual / 2)
            scatters[name] = RunScatter(variance, max(by_pair) * (1 - 1 / len(scores)))
    return scatters


def _difference_by_fold(a: RunScores, b: RunScores) -> tuple[RunScatter, float] | None:
    """Return the scatter of ``a`` minus ``b`` between folds on common rows, and the rows' part.

    The result is None where the difference is known in fewer than two folds.
    """
    values = _difference_by_pass(a, b)
    tables = [side.fold_means(values) for side in (a, b) if side.folds is not None]
    if not tables or a.units < 2:
        return None
    # A fold counts where both sides have run it.
    table = np.where(np.isfinite(sum(tables)), tables[0], np.nan)
    scatter = fold_scatter(table)
    if not scatter.degrees:
        return None
    folds = float(np.isfinite(table).sum()) / len(table)
    of_rows = float(values.var(axis=1, ddof=1).mean()) * folds / a.units
    return scatter, of_rows


def _difference_by_pass(a: RunScores, b: RunScores) -> Array:
    """Return the values of ``a`` less those of ``b``, (passes, units).

    A cell that draws nothing answers every pass alike.
    """
    passes = min((len(s.values) for s in (a, b) if s.folds is not None), default=1)
    values = [s.values[: passes if s.folds is not None else 1] for s in (a, b)]
    return np.asarray(np.broadcast_to(values[0] - values[1], (passes, a.units)))


def fold_scatter(folds: Array) -> RunScatter:
    """Compute the variance between the folds of a pass, (repeats, folds), over all passes."""
    scored = folds[np.isfinite(folds).sum(axis=1) > 1]
    degrees = int((np.isfinite(scored).sum(axis=1) - 1).sum())
    if not degrees:
        return RunScatter(0.0, 0)
    squares = np.nansum((scored - np.nanmean(scored, axis=1, keepdims=True)) ** 2)
    return RunScatter(float(squares) / degrees, degrees)


def estimate_variances(
    a: RunScores,
    b: RunScores | None = None,
    scatters: Sequence[RunScatter | None] | None = None,
) -> Estimate:
    """Estimate a score, or ``a`` minus ``b``, with its variance by the rules above.

    Args:
        a: a score.
        b: a score on the same rows.
        scatters: moderated scatter of the runs of each side; None where a side is not known to
            scatter. Without them each side has its unmoderated scatter.

    Raises:
        StoreError: ``a`` and ``b`` answered different rows.
    """
    sides = [side for side in (a, b) if side is not None]
    if b is not None:
        check_paired(a, b)
    value = a.estimate - (b.estimate if b is not None else 0.0)
    rows = max(row_variance(a, b), _imaginary_variance(sides))
    if a.design.is_cross_validation and b is not None:
        return _estimate_difference_of_folds(a, b, rows, scatters)
    if a.design.is_cross_validation:
        # This uses the scatter of its folds, hard and easy ones.
        inflated = rows + _shared_variance(a.values, rows)
        scatter = RunScatter(0.0, 0) if a.fold_scores is None else fold_scatter(a.fold_scores)
        of_folds = excess = 0.0
        if scatter.degrees and a.units > 1:
            of_folds = scatter.variance / a.runs
            of_rows = float(a.values.var(axis=1, ddof=1).mean()) / a.units / len(a.values)
            excess = max(of_folds - of_rows, 0.0)
        if excess == 0:
            return Estimate(value, inflated, ((inflated, a.units - 1.0),))
        variance = inflated + excess
        parts = (inflated, a.units - 1.0), (of_folds, scatter.degrees)
        return Estimate(value, variance, parts, excess / variance)
    if scatters is None:
        by_name = _estimate_scatters({str(place): side for place, side in enumerate(sides)})
        scatters = [by_name.get(str(place)) for place in range(len(sides))]
    # Where answers are mostly noise, the rest would be chance.
    rows = max(rows - sum(side.noise_variance for side in sides), rows / 4)
    runs = [
        (scatter.variance / side.runs, scatter.degrees)
        for side, scatter in zip(sides, scatters, strict=True)
        if scatter is not None
    ]
    variance = rows + sum(v for v, _ in runs)
    share = 1 - rows / variance if variance > 0 else 0.0
    return Estimate(value, variance, ((rows, a.units - 1.0), *runs), share)


def _estimate_difference_of_folds(
    a: RunScores, b: RunScores, rows: float, scatters: Sequence[RunScatter | None] | None
) -> Estimate:
    """Estimate ``a`` minus ``b`` under cross-validation, on the same rows."""
    if scatters is None:
        by_name = _estimate_scatters({"a": a, "b": b})
        scatters = by_name.get("a"), by_name.get("b")
    inflated = rows + _shared_variance(_difference_by_pass(a, b), rows)
    counts = [side.runs for side in (a, b) if side.folds is not None]
    values = _difference_by_pass(a, b)
    of_rows = 0.0
    if a.units > 1:
        of_rows = float(values.var(axis=1, ddof=1).mean()) / a.units / len(values)
    of_runs = [
        (scatter.variance / min(counts), scatter.degrees)
        for scatter in scatters
        if scatter is not None and counts
    ]
    excess = max(sum(variance for variance, _ in of_runs), 0.0)
    variance = inflated + excess
    parts = [(inflated, a.units - 1.0)]
    parts += [(max(of_rows / 2 + of_run, 0.0), degrees) for of_run, degrees in of_runs]
    share = excess / variance if variance > 0 else 0.0
    return Estimate(a.estimate - b.estimate, variance, tuple(parts), share)


def _shared_variance(values: Array, least: float) -> float:
    """Estimate the variance that all folds and passes share beyond their rows.

    Args:
        values: (passes, units) values.
        least: variance that the rows of a pass have at least.
    """
    units = values.shape[1]
    of_pass = float(values.var(axis=1, ddof=1).mean()) / units if units > 1 else 0.0
    return (ROW_FACTOR - 1) * max(of_pass, least)


def row_variance(a: RunScores, b: RunScores | None = None) -> float:
    """Estimate the variance that rows contribute to the mean score, or to the difference of two."""
    rows = a.values.mean(axis=0) - (b.values.mean(axis=0) if b is not None else 0.0)
    return float(rows.var(ddof=1)) / len(rows) if len(rows) > 1 else 0.0


def _imaginary_variance(sides: list[RunScores]) -> float:
    """Estimate the variance of the mean from imaginary rows; 0 for numbers and texts."""
    credits = [side.credit for side in sides if side.credit is not None]
    if len(credits) < len(sides):
        return 0.0
    spread = 0.5 * math.sqrt(sum(1 / len(side.tables) for side in sides))
    rows = credits[0]
    added = [0.5 + spread, 0.5 - spread] * 2
    if len(credits) > 1:
        rows, added = credits[0] - credits[1], [spread, -spread]
    extended = np.append(rows, added)
    return float(extended.var()) / len(extended)


def on_common_rows(a: RunScores, b: RunScores) -> tuple[RunScores, RunScores]:
    """Restrict both scores to the rows that both answered, in the passes that both have.

    Rows of folds that failed or wait are missing.

    Raises:
        StoreError: no row is common, or the answers are to one split and differ.
    """
    passes = min(len(side.tables) for side in (a, b))
    if a.design.is_cross_validation and b.design.is_cross_validation:
        a, b = a.take_passes(passes), b.take_passes(passes)
    if a.uid == b.uid or not (a.design.is_cross_validation and b.design.is_cross_validation):
        check_paired(a, b)
        return a, b
    common = frozenset(a.uid) & frozenset(b.uid)
    first, second = a.restrict(common), b.restrict(common)
    check_paired(first, second)
    return first, second
