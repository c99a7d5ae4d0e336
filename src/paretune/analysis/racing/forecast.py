"""What the final runs that are missing may score, and what is recommended when all are there.

A run of a cell scores its mean, plus what its rows share (only in cross-validation, where each
position has its own fold of rows), plus its own noise. The test rows stay as they are, so all that
is uncertain is the noise of runs (the variance between test rows is in the study's answer with all
runs, and no run can change it). For a cell with S scores::

    sigma_b^2 = d s~^2 / chi2_d,   d = d0 + S - 1,   s~^2 = (d0 s0^2 + sum of squares) / d

``s0^2`` is the variance of all cells together, with two degrees of freedom of 2.5 points, and
d0 = 4. Pooling is harmless here: it decides what is trained, not what is claimed. The means are
drawn from the posterior that is shrunk to a common mean
(:func:`paretune.analysis.pareto.expected_scores.draw_true_means`): of the best of several after two
runs, further ones are lower on average. Each missing run scores ``mean_b + sigma_b z``.

What is then recommended follows from the rule of :mod:`paretune.analysis.pareto.recommend`: of what
exceeds the trivial score, is within the limits and does not fail mostly, the cheapest whose
expected score is within ``within_points`` of the highest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paretune import metrics
from paretune.analysis.cell import Cell, CellKey, has_test_answers, position_of
from paretune.analysis.pareto.expected_scores import (
    draw_true_means,
    failure_prior,
    score_of_constant,
)
from paretune.analysis.pareto.recommend import (
    Candidate,
    Choice,
    cheapest_near_best,
    cheapness_key,
)
from paretune.methods import baselines
from paretune.metrics import Array
from paretune.study import Protocol

_SHARED_DEGREES = 4.0
_PRIOR_DEGREES = 2.0
_PRIOR_POINTS = 2.5
_SWEEPS = 20


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
                scores[row, at] = metric.compute(part.label, part.prediction, part.question)
        if cell.deterministic:  # it scores the same in each repeat
            period = cell.design.folds if crossed else 1
            for place in range(len(seeds)):
                if not np.isfinite(scores[row, place]):
                    scores[row, place] = scores[row, place % period]
        for outer in cell.failed_folds:  # no final run will come
            lost[row, outer.position] = True
    return ScoreTable(
        keys=tuple(cell.key for cell in cells),
        scores=scores,
        lost=lost,
        fixed=np.array([cell.deterministic for cell in cells]),
        trivial=np.array([cell.name in baselines.TRIVIAL for cell in cells]),
        crossed=crossed,
        lowest=metric.lowest,
        highest=metric.highest,
    )


def simulate_completions(table: ScoreTable, draws: int, rng: np.random.Generator) -> Array:
    """Scores of all runs, (draws, cells, positions); NaN where a run failed.

    Cells without any score are NaN.
    """
    fit, counts = _fit_runs(table), np.maximum(table.counts, 1)
    seeded = np.flatnonzero(~table.fixed & (table.counts > 0))
    means = np.broadcast_to(fit.means, (draws, len(fit.means))).copy()
    if len(seeded):
        means[:, seeded] = draw_true_means(
            fit.means[seeded],
            np.diag(fit.variance[seeded] / counts[seeded]),
            np.zeros(len(seeded), dtype=int),
            table.highest / 100,
            draws,
            rng,
        ).T
    sigma = np.sqrt(fit.degrees * fit.variance / rng.chisquare(fit.degrees, means.shape))
    noise = rng.normal(size=(draws, *table.scores.shape))
    drawn = means[..., None] + sigma[..., None] * noise + fit.of_fold
    missing = table.missing & (~table.fixed & (table.counts > 0))[:, None]
    whole = np.where(missing, drawn, table.scores)
    return np.asarray(np.clip(whole, table.lowest, table.highest))


def pool_run_scatter(table: ScoreTable) -> Array:
    """The standard deviation of single runs of each cell, pooled as above: (cells,)."""
    return np.asarray(np.sqrt(_fit_runs(table).variance))


class _RunFit(NamedTuple):
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
    pooled = _SHARED_DEGREES + degrees
    return _RunFit(means, (_SHARED_DEGREES * shared + squares) / pooled, pooled, of_fold)


def estimate_fold_effects(table: ScoreTable) -> Array:
    """How much higher scores are on the rows of each position: (positions,); 0 on one split.

    The additive fit of cells and positions by least squares, in which cells that know other
    positions count by what they score there more or less than elsewhere.
    """
    effects = np.zeros(table.scores.shape[1])
    scored = np.isfinite(table.scores) & ~table.trivial[:, None]
    if not table.crossed or not scored.any():
        return effects
    for _ in range(_SWEEPS):
        level = np.where(scored, table.scores - effects, 0.0)
        means = level.sum(axis=1) / np.maximum(scored.sum(axis=1), 1)
        rest = np.where(scored, table.scores - means[:, None], 0.0)
        updated = rest.sum(axis=0) / np.maximum(scored.sum(axis=0), 1)
        seen = scored.any(axis=0)
        updated = np.where(seen, updated - updated[seen].mean(), 0.0)
        if math.isclose(float(np.abs(updated - effects).max()), 0.0, abs_tol=1e-9):
            break
        effects = updated
    return effects


@dataclass(frozen=True)
class ChoiceForecast:
    """Chances over completions of a task's runs.

    Attributes:
        chosen: that a configuration is recommended; of None, that nothing is.
        best: that it has the highest expected score of those that may be recommended.
        agreement: that what is chosen from the runs so far is recommended.
    """

    chosen: Mapping[CellKey | None, float]
    best: Mapping[CellKey, float]
    agreement: float = 0.0

    def matters(self, key: CellKey) -> float:
        """How likely the configuration is the recommended one or the highest."""
        return max(self.chosen.get(key, 0.0), self.best.get(key, 0.0))


def forecast_choice(choice: Choice, table: ScoreTable, completions: Array) -> ChoiceForecast:
    """The chances of each configuration.

    Args:
        choice: from the runs so far.
        table: of the cells of its candidates.
        completions: (draws, cells, positions), of :func:`simulate_completions`.
    """
    by_key = {candidate.cell.key: candidate for candidate in choice.candidates}
    candidates = [by_key[key] for key in table.keys]
    expected, useful = _expected_scores(choice, candidates, table, completions)
    point = table.highest / 100
    within, axis = choice.budget.within_points, choice.budget.cost_axis
    chosen: Counter[CellKey | None] = Counter()
    best: Counter[CellKey] = Counter()
    for scores, possible in zip(expected, useful, strict=True):
        pool = np.flatnonzero(possible)
        points = {table.keys[i]: scores[i] / point for i in pool}
        cheapness = {table.keys[i]: cheapness_key(candidates[i], axis, scores[i]) for i in pool}
        chosen[cheapest_near_best(points, cheapness, within)] += 1
        if points:
            best[max(points, key=points.__getitem__)] += 1
    draws, key = len(completions), choice.chosen.cell.key if choice.chosen else None
    return ChoiceForecast(
        {key: count / draws for key, count in chosen.items()},
        {key: count / draws for key, count in best.items()},
        chosen[key] / draws,
    )


def _expected_scores(
    choice: Choice,
    candidates: Sequence[Candidate],
    table: ScoreTable,
    completions: Array,
) -> tuple[Array, Array]:
    """Expected scores, and which may be recommended: (draws, cells)."""
    cells = [candidate.cell for candidate in candidates]
    with np.errstate(invalid="ignore"):
        means = np.nanmean(completions, axis=2)
    lost = table.lost.sum(axis=1)
    seeds = table.scores.shape[1]
    runs = np.array([1 if cell.deterministic else seeds for cell in cells])
    may_fail = np.array([not cell.trains_nothing for cell in cells])
    prior = failure_prior(
        (int(f), int(r - f)) for f, r, may in zip(lost, runs, may_fail, strict=True) if may
    )
    fails = np.where(may_fail, (lost + prior[0]) / (runs + sum(prior)), 0.0)
    constant = score_of_constant(cells)
    expected = (1 - fails) * means + fails * constant
    allowed = np.array(
        [
            candidate.within_budget
            and cell.name not in baselines.TRIVIAL
            and not cell.selected_on_test
            and not (failed > 0 and 2 * failed >= count)
            for candidate, cell, failed, count in zip(candidates, cells, lost, runs, strict=True)
        ]
    )
    trivial = choice.trivial_score
    useful = allowed & np.isfinite(means)
    if trivial is not None:
        useful = useful & (means > trivial.value + 1e-9)
    return expected, useful
