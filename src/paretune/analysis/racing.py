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

**Completions.** All scores come from the posterior of
:mod:`paretune.analysis.pareto.expected_scores`, with its pooled variance of runs, s^2. On one split
the test rows stay as they are, so all that is uncertain is the noise of runs (the variance between
test rows is in the study's answer with all runs, and no run can change it). Folds that wait bring
rows of their own, so in cross-validation the rows' covariance C is uncertain too until every fold
was answered once. With S of N runs, and a share a of the rows answered::

    m ~ posterior of the true mean, around the score x with variance s^2 / S (and C)
    mean of all runs = x + (1 - S/N) (m - x) + noise
    variance of the noise = s^2 (N - S) / N^2 (and a (1 - a) C, of all configurations together)

On one split what a completion is off the expected scores is stretched by sqrt(d / chi2_d) for all
alike, since s^2 is an estimate with d degrees of freedom; in cross-validation the rows outweigh it.

What is then recommended follows from the rule of :mod:`paretune.analysis.pareto.recommend`: of what
exceeds the trivial score, is within the limits and does not fail mostly, the cheapest whose
expected score is within ``within_points`` of the highest.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paretune.analysis.cell import FIRST_RUNS, Cell, CellKey, Stop, has_test_answers, position_of
from paretune.analysis.pareto.costs import AXES, estimate_cost
from paretune.analysis.pareto.expected_scores import (
    draw_true_means,
    estimate_failures,
    estimate_means,
    pool_run_variance,
    score_of_constant,
)
from paretune.analysis.pareto.recommend import (
    Budget,
    Candidate,
    Choice,
    cheapest_near_best,
    choose,
    may_be_chosen,
)
from paretune.metrics import Array
from paretune.study import Limits, Protocol, Study
from paretune.study.specs import find_proposer

DECIDED = 0.975
IN_PLAY = 0.02
"""Chances above which the answer is decided, and below which a method no longer matters.

A race is to answer as the full study in 95 %. Half of the 5 % is left to what comes before the
final runs: rates that were dropped after fewer trials. The chance does not know of these.
"""
DRAWS = 500
_SEED = 20_261_126


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
    if any(find_proposer(cell.name) is None for cell in unmeasured):
        return replace(nothing, measured=False)
    if tuned is None:
        tuned = methods if any(cell.final for cell in methods.values()) else ()
    crossed = any(cell.design.is_cross_validation for cell in cells)
    if not crossed and not methods.keys() <= {*stopped, *tuned}:
        return nothing
    positions = {key: 0 if key in stopped else min(FIRST_RUNS, most) for key in methods}
    if unmeasured or not all(cell.complete for cell in cells if cell.baseline):
        return RaceState(every | positions, stopped)  # what proposes is measured after its trials
    lost = {key: _find_lost_positions(cell, protocol) for key, cell in methods.items()}
    racing = [k for k, cell in methods.items() if k not in stopped and not cell.all_trials_failed]
    forecast = None
    while all(at in lost[key] for key in racing for at in range(positions[key])):
        forecast = _foresee_round(cells, positions, protocol, budget)
        unfinished = [key for key in racing if positions[key] < most]
        failures = {key: sum(lost[key][at] for at in range(positions[key])) for key in unfinished}
        able = [key for key in unfinished if 2 * failures[key] < most]
        # In cross-validation what is behind is not recommended: it keeps up with those that failed.
        undecided = forecast is None or forecast.agreement < DECIDED
        undecided |= crossed and any(failures[key] for key in able)
        in_play = set(able)
        if forecast is not None:
            chances = (forecast.chosen, forecast.best)
            in_play = {k for k in able if max(of.get(k, 0.0) for of in chances) >= IN_PLAY}
        promoted = [key for key in able if failures[key] or (undecided and key in in_play)]
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


def _find_lost_positions(cell: Cell, protocol: Protocol) -> dict[int, bool]:
    """The positions whose run has ended, and whether without a score of a run that trained."""
    lost = {
        at: cell.has_failed(record) or not has_test_answers(record)
        for record in cell.final
        if (at := position_of(record, protocol.seeds)) is not None
    }
    return lost | {outer.position: True for outer in cell.failed_folds}


def foresee_choice(
    cells: Sequence[Cell], protocol: Protocol, choice: Choice, round_seed: int = 0
) -> ChoiceForecast:
    """What all runs of a task would make of a choice from some; empty where nothing has a score.

    Args:
        cells: of the task, from which it was made.
        round_seed: completions of another number are drawn anew.
    """
    candidates = choice.candidates
    if not candidates:
        return ChoiceForecast({}, {})
    lost = [_find_lost_positions(c.cell, protocol) for c in candidates]
    trained = [len(protocol.seeds) - sum(positions.values()) for positions in lost]
    rng = np.random.default_rng([_SEED, round_seed])
    completions = simulate_completions(candidates, trained, DRAWS, rng)
    further = {
        c.cell.key: 0 if c.cell.deterministic else len(protocol.seeds) - len(positions)
        for c, positions in zip(candidates, lost, strict=True)
    }
    failures = estimate_failures([c.cell for c in candidates], further)
    failed = {key: fails / (fails + trained) for key, (fails, trained) in failures.items()}
    constant = score_of_constant(cells)
    chosen: Counter[CellKey | None] = Counter()
    best: Counter[CellKey] = Counter()
    for means in completions:
        pool = []
        for candidate, mean in zip(candidates, means, strict=True):
            key = candidate.cell.key
            fails = failed.get(key, 0.0)
            if candidate.within_budget and may_be_chosen(
                candidate, choice.trivial_score, mean, further[key]
            ):
                pool.append((candidate, float((1 - fails) * mean + fails * constant)))
        cheapest = cheapest_near_best(pool, choice.budget)
        chosen[cheapest.cell.key if cheapest else None] += 1
        if pool:
            best[max(pool, key=lambda scored: scored[1])[0].cell.key] += 1
    return ChoiceForecast(
        {key: count / DRAWS for key, count in chosen.items()},
        {key: count / DRAWS for key, count in best.items()},
        chosen[choice.chosen.cell.key if choice.chosen else None] / DRAWS,
    )


def simulate_completions(
    candidates: Sequence[Candidate], trained: Sequence[int], draws: int, rng: np.random.Generator
) -> Array:
    """Mean scores of all runs of configurations on one task, (draws, candidates).

    Args:
        candidates: with a score.
        trained: runs of each that will have trained when all have ended.
    """
    cells = [candidate.cell for candidate in candidates]
    scores = [candidate.expected.score for candidate in candidates]
    seeded = np.array([not cell.deterministic for cell in cells])
    estimates, of_rows = estimate_means(scores, [False] * len(cells))
    scatter = pool_run_variance(itertools.compress(scores, seeded))
    of_run = np.where(seeded, scatter.variance, 0.0)
    ended = np.array([score.runs for score in scores])
    # What runs in cross-validation have not answered is new to all, baselines included.
    folds = [cell.design.answered for cell in cells if cell.design.folds and not cell.baseline]
    answered = max(folds) / scores[0].design.folds if folds else 1.0
    if answered == 1:
        of_rows = np.zeros_like(of_rows)
    left = np.where(seeded, 1 - ended / np.maximum(trained, ended), 1 - answered)
    point = scores[0].highest / 100
    true = draw_true_means(cells, estimates, of_rows + np.diag(of_run / ended), point, draws, rng).T
    noise = np.sqrt(of_run * left * (1 - left) / ended) * rng.normal(size=true.shape)
    if answered < 1:
        of_rows = answered * (1 - answered) * of_rows + (1e-5 * point) ** 2 * np.eye(len(cells))
        noise += rng.multivariate_normal(np.zeros(len(cells)), of_rows, draws, method="cholesky")
    # On one split all hangs on the variance of runs, which is not known better than from these few.
    unknown = np.ones((draws, 1))
    if answered == 1:
        unknown = np.sqrt(scatter.degrees / rng.chisquare(scatter.degrees, unknown.shape))
    means = estimates + left * (true.mean(axis=0) - estimates)
    means = means + unknown * (left * (true - true.mean(axis=0)) + noise)
    return np.asarray(np.clip(means, scores[0].lowest, scores[0].highest))
