"""The two rules of a verdict: the variance of a score, or of the difference of two.

A difference is paired: D has a value for each row (cluster, question) that both answered, the mean
over runs of the jackknife values of one side less those of the other. S runs a side, n rows.

**One split**: quasi-F (Clark 1973, Journal of Verbal Learning and Verbal Behavior 12). Runs and
rows are both drawn, so the variance of the difference is what rows contribute plus what runs do::

    V = (var(D) / n - noise) + s_a^2 / S_a + s_b^2 / S_b

The noise of single answers, which neither the run nor the row explains, is in var(D) and in s^2;
it is counted once, and at least a quarter of var(D) / n stays. ``s^2`` is the larger of the
method's variance between runs and the mean of all methods (:func:`pool_runs`), so that runs which
agree by chance do not look certain and no method borrows the steadiness of others.

**Outer cross-validation**: randomised blocks. Each row is answered by a run that has not seen it,
so var(D) has what runs scatter by within it. What methods differ by from fold to fold beyond that
(their interaction ``m``, the mean over pairs of methods of the variance between folds of their
difference, over the number of runs) is added, and the rows' part is multiplied by ``ROW_FACTOR``
for what all folds share, above all most of their training rows::

    V = c var(D) / n + max(m - var(D) / n, 0)

With several passes var(D) in the last term is that of one pass, over the number of passes.

Either V has Satterthwaite's degrees of freedom (1946): V^2 over the sum of each part squared over
its own, n - 1 of rows, S - 1 of runs (twice that where others lend), (methods - 1)(K - 1) a pass of
the interaction.

A score alone is the difference to nothing, by the same formulas. Equal answers prove little: the
rows' part is at least what imaginary rows would leave, two right and two wrong of a score (Agresti
and Coull 1998), half a pair won and half a pair lost of a difference (Agresti and Min 2005).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special

from paretune.analysis.statistics.scores import RunScores, check_paired
from paretune.metrics import Array

ROW_FACTOR = 1.2
"""Of the variance of rows under cross-validation: 1.20 [0.32, 2.04], bench/row_factor.py."""
MIN_LENDING = 3
"""Cells from which on the others say something about one."""

VariancePart = tuple[float, float]
"""A variance and its degrees of freedom."""


@dataclass(frozen=True)
class Estimate:
    """A score or a difference, with its variance.

    Attributes:
        value: of the score or the difference.
        variance: of it.
        parts: variances as they were estimated, with their degrees of freedom; the first is the
            rows'. Under cross-validation the second is the interaction *with* the rows in it.
        run_share: share of the variance that comes from runs.
    """

    value: float
    variance: float
    parts: tuple[VariancePart, ...]
    run_share: float = 0.0

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of the variance."""
        error = sum(v**2 / degrees for v, degrees in self.parts if v > 0)
        return self.variance**2 / error if error > 0 else math.inf

    def half_width(self, level: float) -> float:
        """Half the width of the interval of two-sided level ``level``, for example 0.05."""
        if self.parts[0][1] < 1:
            return math.inf
        if self.variance <= 0:
            return 0.0
        return float(special.stdtrit(self.freedom, 1 - level / 2)) * math.sqrt(self.variance)

    def p_value(self) -> float:
        """Two-sided, of no difference."""
        if self.parts[0][1] < 1:
            return 1.0
        if self.variance <= 0:
            return float(self.value == 0)
        t = abs(self.value) / math.sqrt(self.variance)
        return 2 * float(special.stdtr(self.freedom, -t))


@dataclass(frozen=True)
class RunScatter:
    """What all methods say about the scatter of runs.

    Attributes:
        variance: of the score of one run; under cross-validation of the difference of two methods
            on one fold, what rows contribute included.
        degrees: of freedom.
    """

    variance: float
    degrees: float


def pool_runs(
    scores: Mapping[str, RunScores], baselines: Collection[str] = ()
) -> RunScatter | None:
    """The scatter of runs of the cells of one task and model; None where fewer than three lend it.

    Under cross-validation baselines lend nothing: a linear probe is steadier than what is
    fine-tuned.

    Args:
        scores: by name.
        baselines: names in ``scores``.
    """
    split = [s for s in scores.values() if s.run_degrees > 0 and s.fold_scores is None]
    if len(split) >= MIN_LENDING:
        variance = float(np.mean([score.run_variance for score in split]))
        return RunScatter(variance, sum(score.run_degrees for score in split))
    crossed = [
        score.fold_scores
        for name, score in scores.items()
        if score.fold_scores is not None and score.run_degrees > 0 and name not in baselines
    ]
    if len(crossed) < MIN_LENDING:
        return None
    pairs = [fold_scatter(a - b) for a, b in combinations(crossed, 2) if a.shape == b.shape]
    seen = [pair for pair in pairs if pair.degrees > 0]
    if not seen:
        return None
    degrees = (len(crossed) - 1) * float(np.mean([pair.degrees for pair in seen]))
    return RunScatter(float(np.mean([pair.variance for pair in seen])), degrees)


def fold_scatter(folds: Array) -> RunScatter:
    """The variance between the folds of a pass, (repeats, folds), over all passes."""
    scored = folds[np.isfinite(folds).sum(axis=1) > 1]
    degrees = int((np.isfinite(scored).sum(axis=1) - 1).sum())
    if not degrees:
        return RunScatter(0.0, 0)
    squares = np.nansum((scored - np.nanmean(scored, axis=1, keepdims=True)) ** 2)
    return RunScatter(float(squares) / degrees, degrees)


def estimate_variances(
    a: RunScores, b: RunScores | None = None, pooled: RunScatter | None = None
) -> Estimate:
    """A score, or ``a`` minus ``b``, with its variance by the rules above.

    Args:
        a: a score.
        b: of the same rows.
        pooled: what the other cells say of the scatter of runs; None: these stand alone.

    Raises:
        StoreError: ``a`` and ``b`` answered different rows.
    """
    sides = [side for side in (a, b) if side is not None]
    if b is not None:
        check_paired(a, b)
    value = a.estimate - (b.estimate if b is not None else 0.0)
    rows = max(row_variance(a, b), _imaginary_variance(sides))
    scattering = [side for side in sides if side.run_degrees > 0]
    if not a.design.is_cross_validation:
        # Where answers are mostly noise, what is left would be chance.
        rows = max(rows - sum(side.noise_variance for side in sides), rows / 4)
        lent, factor = (pooled.variance, 2) if pooled else (0.0, 1)
        runs = [
            (max(side.run_variance, lent) / side.runs, float(factor * side.run_degrees))
            for side in scattering
        ]
        variance = rows + sum(v for v, _ in runs)
        share = 1 - rows / variance if variance > 0 else 0.0
        return Estimate(value, variance, ((rows, a.units - 1.0), *runs), share)
    inflated = ROW_FACTOR * rows
    row_part = (inflated, a.units - 1.0)
    tables = [side.fold_scores for side in scattering if side.fold_scores is not None]
    if len(tables) == 2 and tables[0].shape == tables[1].shape:
        tables = [tables[0] - tables[1]]
    scatter = (pooled or fold_scatter(tables[0])) if scattering else None
    if scatter is None or scatter.degrees <= 0:
        return Estimate(value, inflated, (row_part,))
    passes = min(len(side.tables) for side in scattering)
    # What draws nothing answers every pass alike.
    by_run = [np.broadcast_to(s.values, (max(passes, len(s.values)), s.units)) for s in sides]
    by_pass = by_run[0][:passes] - (by_run[1][:passes] if b is not None else 0.0)
    of_one_pass = float(by_pass.var(axis=1, ddof=1).mean()) / a.units if a.units > 1 else 0.0
    interaction = scatter.variance / min(side.runs for side in scattering)
    excess = max(interaction - of_one_pass / passes, 0.0)
    if excess == 0:
        return Estimate(value, inflated, (row_part,))
    variance = inflated + excess
    parts = row_part, (interaction, scatter.degrees)
    return Estimate(value, variance, parts, excess / variance)


def row_variance(a: RunScores, b: RunScores | None = None) -> float:
    """The variance that rows contribute to the mean score, or to the difference of two."""
    rows = a.values.mean(axis=0) - (b.values.mean(axis=0) if b is not None else 0.0)
    return float(rows.var(ddof=1)) / len(rows) if len(rows) > 1 else 0.0


def _imaginary_variance(sides: list[RunScores]) -> float:
    """The variance of the mean that imaginary rows would leave; 0 of numbers and texts."""
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
    """Both scores on the rows that both answered; folds that failed or wait are missing.

    Raises:
        StoreError: no row is common, or the answers are to one split and differ.
    """
    if a.uid == b.uid or not (a.design.is_cross_validation and b.design.is_cross_validation):
        check_paired(a, b)
        return a, b
    common = frozenset(a.uid) & frozenset(b.uid)
    first, second = a.restrict(common), b.restrict(common)
    check_paired(first, second)
    return first, second
