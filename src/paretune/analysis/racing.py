"""Which final runs a race gives to each cell of a task, decided anew from the records.

A race trains final runs only where they can still change a study's answer.

1. Costs come first: a method whose measured cost exceeds a limit of the study trains nothing.
   Baselines always get all their runs.
2. Every other method gets the first two positions: seeds, or folds of a cross-validation. Then
   again and again: complete the missing runs by simulation, apply the rule of ``recommend``, and
   stop when one configuration is recommended in 97.5 % of the completions. Otherwise each method
   that may be recommended, or be the best, with at least 2 % gets one position more.

A run that failed says that completions may miss another kind of run, so a method with a failure
gets all its runs, or until half have failed; in cross-validation what matters keeps up with it.
Every round is decided by the runs of the rounds before it alone: the same records always give the
same rounds, in any order and after interruptions. Why the claims of a race are those of the full
study is in docs/how-it-works/statistics.md.

**Completions.** A run of a cell scores its mean, plus what its rows share (only in
cross-validation, where each position has its own fold of rows), plus its own noise. The test rows
stay as they are, so all that is uncertain is the noise of runs (the variance between test rows is
in the study's answer with all runs, and no run can change it). For a cell with S scores::

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

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from paretune import metrics
from paretune.analysis.cell import FIRST_RUNS, Cell, CellKey, Stop, has_test_answers, position_of
from paretune.analysis.pareto.costs import AXES, estimate_cost
from paretune.analysis.pareto.expected_scores import (
    draw_true_means,
    failure_prior,
    score_of_constant,
)
from paretune.analysis.pareto.recommend import (
    Budget,
    Candidate,
    Choice,
    cheapest_near_best,
    cheapness_key,
    choose,
)
from paretune.methods import baselines
from paretune.metrics import Array
from paretune.study import Limits, Protocol, Study
from paretune.study.specs import FOUND_BY_SEARCH

DECIDED = 0.975
IN_PLAY = 0.02
"""Chances above which the answer is decided, and below which a method no longer matters.

A race is to answer as the full study in 95 %. Half of the 5 % is left to what comes before the
final runs: rates that were dropped after fewer trials. The chance does not know of these.
"""
DRAWS = 500
_SEED = 20_261_126
_SHARED_DEGREES = 4.0
_PRIOR_DEGREES = 2.0
_PRIOR_POINTS = 2.5
_SWEEPS = 20


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


@dataclass(frozen=True)
class RaceState:
    """How far the race of one task is.

    Attributes:
        positions: how many of its positions each cell may train; baselines all.
        stopped: why cells train no further; empty until the race knows.
        over: no cell will get more than it has.
        forecast: what will be recommended with all runs, after the last complete round; None
            before the first.
        measured: the costs of all methods are known.
    """

    positions: Mapping[CellKey, int]
    stopped: Mapping[CellKey, Stop]
    over: bool = False
    forecast: ChoiceForecast | None = None
    measured: bool = True


def race_budget(limits: Limits) -> Budget:
    """The budget of the recommendation that a study races to."""
    return Budget(limits={axis: limits.by_axis[axis] for axis in AXES if axis in limits.by_axis})


def mark_stopped(study: Study, cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a raced study, with why each is trained no further."""
    stops: dict[tuple[str, str, str], Stop] = {}
    for task in study.tasks:
        of_task = [c for c in cells if c.task == task.key]
        # Which baselines a task has, and which methods train on a model, is known by what has run.
        of_task = [c for c in of_task if c.final or c.tuning or c.cost]
        state = decide_rounds(of_task, study)
        stops |= {(task.key, *key): stop for key, stop in state.stopped.items()}
    return [replace(c, stop=stops.get((c.task, c.model, c.method))) for c in cells]


def decide_rounds(
    cells: Sequence[Cell], study: Study, tuned: Collection[CellKey] | None = None
) -> RaceState:
    """The state of the race of one task.

    Args:
        cells: of one task, without stops, and without those that have no runs.
        tuned: methods of a published split of which no trial is left; None: all, if any final run
            has ended.
    """
    if not cells:
        return RaceState({}, {}, over=True)
    protocol, budget, most = study.protocol, race_budget(study.limits), len(study.protocol.seeds)
    every = {cell.key: most for cell in cells}
    methods = {cell.key: cell for cell in cells if not cell.baseline}
    stopped: dict[CellKey, Stop] = {}
    for key, cell in methods.items():
        costs = ((estimate_cost(cell, axis), limit) for axis, limit in budget.limits.items())
        if any(cost is not None and cost.value > limit for cost, limit in costs):
            stopped[key] = "limit"
    nothing = RaceState(every | dict.fromkeys(methods, 0), stopped)
    unmeasured = [cell for cell in methods.values() if not cell.cost]
    if any(cell.name not in FOUND_BY_SEARCH for cell in unmeasured):
        return replace(nothing, measured=False)
    if tuned is None:
        tuned = methods if any(cell.final for cell in methods.values()) else ()
    crossed = any(cell.design.is_cross_validation for cell in cells)
    if not crossed and not methods.keys() <= {*stopped, *tuned}:
        return nothing
    positions = {key: 0 if key in stopped else min(FIRST_RUNS, most) for key in methods}
    if unmeasured or not all(cell.complete for cell in cells if cell.baseline):
        return RaceState(every | positions, stopped)  # what a search finds is measured after it
    table = tabulate_scores(cells, protocol)
    missing, lost = (
        dict(zip(table.keys, part, strict=True)) for part in (table.missing, table.lost)
    )
    racing = [k for k, cell in methods.items() if k not in stopped and not cell.all_trials_failed]
    forecast = None
    while not any(missing[key][: positions[key]].any() for key in racing):
        forecast = _foresee_round(cells, positions, protocol, budget)
        unfinished = [key for key in racing if positions[key] < most]
        failures = {key: lost[key][: positions[key]].sum() for key in unfinished}
        able = [key for key in unfinished if 2 * failures[key] < most]
        # In cross-validation what is behind is not recommended: it keeps up with those that failed.
        undecided = forecast is None or forecast.agreement < DECIDED
        undecided |= crossed and any(failures[key] for key in able)
        promoted = [
            key
            for key in able
            if failures[key]
            or (undecided and (forecast is None or forecast.matters(key) >= IN_PLAY))
        ]
        if not promoted:
            stopped |= dict.fromkeys(unfinished, "no change")
            return RaceState(every | positions, stopped, over=True, forecast=forecast)
        positions |= {key: positions[key] + 1 for key in promoted}
    return RaceState(every | positions, stopped, forecast=forecast)


def _foresee_round(
    cells: Sequence[Cell], positions: Mapping[CellKey, int], protocol: Protocol, budget: Budget
) -> ChoiceForecast | None:
    """What the runs at these positions say; None where nothing has a score."""
    of_round = []
    for cell in cells:
        count = positions.get(cell.key)
        if count is not None:
            behind = cell.design.is_cross_validation and count < max(positions.values())
            cell = allowed_positions(cell, protocol, count)
            cell = replace(cell, stop="no change" if behind else None)
        of_round.append(cell)
    choice = choose(of_round, budget)
    forecast = foresee_choice(of_round, protocol, choice, sum(positions.values()))
    return forecast if forecast.chosen else None


def allowed_positions(cell: Cell, protocol: Protocol, count: int) -> Cell:
    """The cell with the final runs of its first ``count`` positions alone."""
    positions = ((record, position_of(record, protocol.seeds)) for record in cell.final)
    records = tuple(record for record, at in positions if at is not None and at < count)
    failed = frozenset(outer for outer in cell.failed_folds if outer.position < count)
    return replace(cell, final=records, failed_folds=failed, pending={})


def foresee_choice(
    cells: Sequence[Cell], protocol: Protocol, choice: Choice, round_seed: int = 0
) -> ChoiceForecast:
    """What all runs of a task would make of a choice from some; empty where nothing has a score.

    Args:
        cells: of the task, from which it was made.
        round_seed: completions of another number are drawn anew.
    """
    by_key = {candidate.cell.key: candidate for candidate in choice.candidates}
    scored = [cell for cell in cells if cell.key in by_key]
    if not scored:
        return ChoiceForecast({}, {})
    table = tabulate_scores(scored, protocol)
    rng = np.random.default_rng([_SEED, round_seed])
    completions = simulate_completions(table, DRAWS, rng)
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
    return ChoiceForecast(
        {key: count / DRAWS for key, count in chosen.items()},
        {key: count / DRAWS for key, count in best.items()},
        chosen[choice.chosen.cell.key if choice.chosen else None] / DRAWS,
    )


def _expected_scores(
    choice: Choice, candidates: Sequence[Candidate], table: ScoreTable, completions: Array
) -> tuple[Array, Array]:
    """Expected scores, and which may be recommended: (draws, cells)."""
    cells = [candidate.cell for candidate in candidates]
    level = completions - estimate_fold_effects(table)  # failed folds may be hard or easy
    with np.errstate(invalid="ignore"):
        means = np.nanmean(level, axis=2)
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
                answers = getattr(part, metric.reads)
                scores[row, at] = metric.compute(part.label, answers, part.question)
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
    fit, counts = fit_runs(table), np.maximum(table.counts, 1)
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


class RunFit(NamedTuple):
    """Means and pooled variances of cells, (cells,), their degrees, and effects of folds."""

    means: Array
    variance: Array
    degrees: Array
    of_fold: Array


def fit_runs(table: ScoreTable) -> RunFit:
    """The scores of each cell as above."""
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
    return RunFit(means, (_SHARED_DEGREES * shared + squares) / pooled, pooled, of_fold)


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
        if np.allclose(updated, effects, rtol=0, atol=1e-9):
            break
        effects = updated
    return effects
