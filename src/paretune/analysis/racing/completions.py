"""What the final runs that are missing may score: simulated completions of a task's cells.

A run of a cell scores its mean, plus what its rows share (only in cross-validation, where each
position has its own fold of rows), plus its own noise. The test rows stay as they are, so all that
is uncertain is the noise of runs (the variance between test rows is in the study's answer with all
runs, and no run can change it). For a cell with S scores::

    sigma_b^2 = d s~^2 / chi2_d,   d = d0 + S - 1,   s~^2 = (d0 s0^2 + sum of squares) / d
    mean_b    ~ N(w mean + (1 - w) m, w sigma_b^2 / S),   w = t^2 / (t^2 + sigma_b^2 / S)

and each missing run scores ``mean_b + sigma_b z'``. m and t^2 are mean and variance of the true
means of all cells: of the best of several after two runs, further ones are lower on average, and
without it chances of 98 % were right in 93 % of simulated studies. ``s0^2`` is the variance of all
cells together, with two degrees of freedom of 2.5 points, and d0 = 4: the weights of
:mod:`paretune.analysis.pareto.expected_scores`. Pooling is harmless here: it decides what is
trained, not what is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretune import metrics
from paretune.analysis.cell import Cell, has_test_answers, position_of
from paretune.analysis.pareto.expected_scores import CellKey
from paretune.methods import baselines
from paretune.metrics import Array
from paretune.study import Protocol

_SHARED_DEGREES = 4.0
_PRIOR_DEGREES = 2.0
_PRIOR_POINTS = 2.5
_SWEEPS = 20
_MIN_CELLS = 3


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one task's final runs, by cell and position.

    A position is a seed of the study; in cross-validation each has its own fold.

    Attributes:
        keys: of the cells.
        scores: (cells, positions); NaN where a run failed or has not ended.
        lost: (cells, positions): runs that ended without a score of a run that trained.
        fixed: (cells,): cells that depend on no seed.
        trivial: (cells,): cells that answer without regard to the row, so that what they score in
            a fold says nothing of the others.
        crossed: each position tests its own rows.
        lowest: of the metric.
        highest: of the metric.
    """

    keys: tuple[CellKey, ...]
    scores: Array
    lost: Array
    fixed: Array
    trivial: Array
    crossed: bool = False
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def missing(self) -> Array:
        """(cells, positions): runs that have not ended."""
        return ~np.isfinite(self.scores) & ~self.lost & ~self.fixed[:, None]

    @property
    def counts(self) -> Array:
        """(cells,): scores of each cell."""
        return np.asarray(np.isfinite(self.scores).sum(axis=1))


def tabulate_scores(cells: Sequence[Cell], protocol: Protocol) -> ScoreTable:
    """The scores of one task's cells, at the positions of the protocol's seeds."""
    seeds = protocol.seeds
    metric = metrics.get(cells[0].metric)
    crossed = any(cell.design.is_cross_validation for cell in cells)
    shape = len(cells), len(seeds)
    scores, lost = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for row, cell in enumerate(cells):
        for record in cell.final:
            at = position_of(record, seeds)
            if at is None:
                continue
            if cell.has_failed(record) or not has_test_answers(record):
                lost[row, at] = True
            else:
                part = record.predictions["test"]
                scores[row, at] = metric.score(part.label, part.prediction, part.question)
        if cell.deterministic:
            _repeat(scores[row], cell.design.folds if crossed else 1)
        if crossed and not cell.deterministic:
            for outer, choice in cell.fold_choices.items():
                if choice.rate is None and len(choice.table) == protocol.trials:
                    lost[row, outer.position] = True  # no final run will come
    return ScoreTable(
        keys=tuple((cell.model, cell.method) for cell in cells),
        scores=scores,
        lost=lost,
        fixed=np.array([cell.deterministic for cell in cells]),
        trivial=np.array([cell.name in baselines.TRIVIAL for cell in cells]),
        crossed=crossed,
        lowest=metric.lowest,
        highest=metric.highest,
    )


def _repeat(scores: Array, period: int) -> None:
    """What depends on no seed scores the same in each repeat; in place."""
    for at in range(len(scores)):
        if not np.isfinite(scores[at]):
            scores[at] = scores[at % period]


def simulate_completions(table: ScoreTable, draws: int, rng: np.random.Generator) -> Array:
    """Scores of all runs, (draws, cells, positions); NaN where a run failed.

    Cells without any score are NaN.
    """
    fit = _fit_runs(table)
    own, counts = fit.degrees, np.maximum(table.counts, 1)
    shape = draws, *table.scores.shape
    sigma = np.sqrt(own * fit.variance / rng.chisquare(own, (draws, len(own))))
    # Those of runs, and of the distribution of all cells' means.
    precision, spread = counts / sigma**2, _spread_of_means(table, fit)
    own_mean = (precision * fit.means + spread.center / spread.variance) / (
        precision + 1 / spread.variance
    )
    mean = own_mean + rng.normal(size=sigma.shape) / np.sqrt(precision + 1 / spread.variance)
    drawn = mean[..., None] + sigma[..., None] * rng.normal(size=shape) + fit.of_fold
    seeded = ~table.fixed & (table.counts > 0)
    whole = np.where(table.missing & seeded[:, None], drawn, table.scores)
    return np.asarray(np.clip(whole, table.lowest, table.highest))


@dataclass(frozen=True)
class _Spread:
    """Center and variance of the true means of a task's cells."""

    center: float
    variance: float


def _spread_of_means(table: ScoreTable, fit: _RunFit) -> _Spread:
    """By the method of moments, at least ``_PRIOR_POINTS``; unbounded for one or two cells."""
    seeded = ~table.fixed & (table.counts > 0)
    if seeded.sum() < _MIN_CELLS:
        return _Spread(0.0, math.inf)
    means = fit.means[seeded]
    noise = float((fit.variance[seeded] / table.counts[seeded]).mean())
    least = (_PRIOR_POINTS * table.highest / 100) ** 2
    return _Spread(float(means.mean()), max(float(means.var(ddof=1)) - noise, least))


def pool_run_scatter(table: ScoreTable) -> Array:
    """The standard deviation of single runs of each cell, pooled as above: (cells,)."""
    return np.asarray(np.sqrt(_fit_runs(table).variance))


@dataclass(frozen=True)
class _RunFit:
    """Means and pooled variances of cells, (cells,), their degrees, and effects of folds."""

    means: Array
    variance: Array
    degrees: Array
    of_fold: Array


def _fit_runs(table: ScoreTable) -> _RunFit:
    of_fold = estimate_fold_effects(table)
    level = np.where(np.isfinite(table.scores), table.scores - of_fold, np.nan)
    counts = table.counts
    means = np.nansum(level, axis=1) / np.maximum(counts, 1)
    squares = np.nansum((level - means[:, None]) ** 2, axis=1)
    seeded = ~table.fixed & (counts > 0)
    degrees = np.maximum(counts - 1, 0)
    prior = _PRIOR_DEGREES * (_PRIOR_POINTS * table.highest / 100) ** 2
    shared = (prior + squares[seeded].sum()) / (_PRIOR_DEGREES + degrees[seeded].sum())
    own = _SHARED_DEGREES + degrees
    return _RunFit(means, (_SHARED_DEGREES * shared + squares) / own, own, of_fold)


def estimate_fold_effects(table: ScoreTable) -> Array:
    """How much higher scores are on the rows of each position: (positions,); 0 on one split.

    The additive fit of cells and positions by least squares, in which cells that know other
    positions count by what they score there more or less than elsewhere.
    """
    effects = np.zeros(table.scores.shape[1])
    known = np.isfinite(table.scores) & ~table.trivial[:, None]
    if not table.crossed or not known.any():
        return effects
    for _ in range(_SWEEPS):
        level = np.where(known, table.scores - effects, 0.0)
        means = level.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        rest = np.where(known, table.scores - means[:, None], 0.0)
        updated = rest.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        seen = known.any(axis=0)
        updated = np.where(seen, updated - updated[seen].mean(), 0.0)
        if math.isclose(float(np.abs(updated - effects).max()), 0.0, abs_tol=1e-9):
            break
        effects = updated
    return effects
