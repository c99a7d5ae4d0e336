"""Which final runs a race gives to each cell of a task, decided anew from the records.

1. Costs come first: a method whose measured cost exceeds a limit of the study trains nothing.
   Baselines always get all their runs.
2. Every other method gets the first two positions: seeds, or folds of a cross-validation. Then
   again and again: complete the missing runs by simulation, apply the rule of ``recommend``, and
   stop when one configuration is recommended in 97.5 % of the completions. Otherwise each method
   that may be recommended, or be the best, with at least 2 % gets one position more.

A run that failed says that completions may miss another kind of run, so a method with a failure
gets all its runs. Every round is decided by the runs of the rounds before it alone: the same
records always give the same rounds, in whatever order runs ended, and after any interruption.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paretune.analysis.cell import FIRST_RUNS, Cell, CellKey, Stop, position_of
from paretune.analysis.pareto.costs import AXES, estimate_cost
from paretune.analysis.pareto.recommend import Budget, Choice, choose
from paretune.analysis.racing.forecast import (
    ChoiceForecast,
    forecast_choice,
    simulate_completions,
    tabulate_scores,
)
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


@dataclass(frozen=True)
class RaceState:
    """How far the race of one task is.

    Attributes:
        positions: how many of its positions each cell may train; baselines all.
        stopped: why cells train no further; empty until the race knows.
        over: no cell will get more than it has.
        forecast: what will be recommended with all runs, after the last complete round.
        agreement: the chance that all runs would recommend what is recommended now; None before
            the first round is complete.
        measured: the costs of all methods are known.
    """

    positions: Mapping[CellKey, int]
    stopped: Mapping[CellKey, Stop]
    over: bool = False
    forecast: ChoiceForecast | None = None
    agreement: float | None = None
    measured: bool = True


def foresee_choice(
    cells: Sequence[Cell], protocol: Protocol, choice: Choice, round_seed: int = 0
) -> ChoiceForecast:
    """What all runs of a task would make of a choice from some; empty where nothing has a score.

    Args:
        cells: of the task, from which it was made.
        round_seed: completions of another number are drawn anew.
    """
    keys = {candidate.cell.key for candidate in choice.candidates}
    scored = [cell for cell in cells if cell.key in keys]
    if not scored:
        return ChoiceForecast({}, {})
    table = tabulate_scores(scored, protocol)
    rng = np.random.default_rng([_SEED, round_seed])
    return forecast_choice(choice, table, simulate_completions(table, DRAWS, rng))


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
    if tuned is None:
        methods = [cell for cell in cells if not cell.baseline]
        started = any(cell.final for cell in methods)
        tuned = {cell.key for cell in methods if started}
    return _Race(cells, study, tuned).decide()


def allowed_positions(cell: Cell, protocol: Protocol, count: int) -> Cell:
    """The cell with the final runs of its first ``count`` positions alone."""
    records = []
    for record in cell.final:
        at = position_of(record, protocol.seeds)
        if at is not None and at < count:
            records.append(record)
    repeats = len({r.run.outer.repeat for r in records if r.run.outer is not None})
    design = cell.design
    if design.is_cross_validation:
        design = replace(design, repeats=max(repeats, 1))
    failed = frozenset(outer for outer in cell.failed_folds if outer.position < count)
    return replace(cell, final=tuple(records), design=design, failed_folds=failed, pending={})


class _Race:
    """The race of one task."""

    def __init__(self, cells: Sequence[Cell], study: Study, tuned: Collection[CellKey]) -> None:
        self._cells, self._tuned = cells, tuned
        self._protocol = study.protocol
        self._budget = race_budget(study.limits)
        self._all = len(study.protocol.seeds)
        self._methods = {c.key: c for c in cells if not c.baseline}

    def decide(self) -> RaceState:
        every = {c.key: self._all for c in self._cells}
        stopped: dict[CellKey, Stop] = {}
        stopped |= {key: "limit" for key, c in self._methods.items() if self._exceeds(c)}
        none = every | dict.fromkeys(self._methods, 0)
        unmeasured = {key for key, cell in self._methods.items() if not cell.cost}
        searched = {key for key, cell in self._methods.items() if cell.name in FOUND_BY_SEARCH}
        if not unmeasured <= searched:
            return RaceState(none, stopped, measured=False)
        if not self._crossed and not self._methods.keys() <= {*stopped, *self._tuned}:
            return RaceState(none, stopped)
        positions = {
            key: 0 if key in stopped else min(FIRST_RUNS, self._all) for key in self._methods
        }
        state = RaceState(every | positions, stopped)
        if unmeasured or not all(cell.complete for cell in self._cells if cell.baseline):
            return state  # what a search finds is measured after it
        while not any(self._waits(key, count) for key, count in positions.items()):
            state = self._judge(positions, stopped)
            promoted = self._find_undecided(state, positions, stopped)
            if not promoted:
                done = {
                    key: "no change"
                    for key, count in positions.items()
                    if count < self._all
                    and key not in stopped
                    and not self._methods[key].all_trials_failed
                }
                final: dict[CellKey, Stop] = stopped | dict.fromkeys(done, "no change")
                return replace(state, positions=every | positions, stopped=final, over=True)
            positions = {key: count + (key in promoted) for key, count in positions.items()}
            state = replace(state, positions=every | positions)
        return state

    @property
    def _crossed(self) -> bool:
        return any(cell.design.is_cross_validation for cell in self._cells)

    def _exceeds(self, cell: Cell) -> bool:
        costs = ((estimate_cost(cell, a), limit) for a, limit in self._budget.limits.items())
        return any(cost is not None and cost.value > limit for cost, limit in costs)

    def _waits(self, key: CellKey, count: int) -> bool:
        """Whether some of a cell's first positions have not ended."""
        cell = self._methods[key]
        if count == 0 or cell.all_trials_failed:
            return False
        table = tabulate_scores([cell], self._protocol)
        return bool(table.missing[0, :count].any())

    def _judge(
        self, positions: Mapping[CellKey, int], stopped: Mapping[CellKey, Stop]
    ) -> RaceState:
        """What the runs of the rounds so far say."""
        cells = self._cells_of_round(positions, stopped)
        choice = choose(cells, self._budget)
        forecast = foresee_choice(cells, self._protocol, choice, sum(positions.values()))
        if not forecast.chosen:
            return RaceState({}, stopped)
        return RaceState({}, stopped, forecast=forecast, agreement=forecast.agreement)

    def _find_undecided(
        self,
        state: RaceState,
        positions: Mapping[CellKey, int],
        stopped: Mapping[CellKey, Stop],
    ) -> set[CellKey]:
        """The methods that get one position more."""
        open_keys = {k for k, n in positions.items() if n < self._all and k not in stopped}
        open_keys = {k for k in open_keys if not self._methods[k].all_trials_failed}
        lost = {k: tabulate_scores([self._methods[k]], self._protocol).lost[0] for k in open_keys}
        promoted = {key for key in open_keys if lost[key][: positions[key]].any()}
        if state.forecast is None or state.agreement is None:
            return open_keys
        if state.agreement < DECIDED:
            promoted |= {key for key in open_keys if state.forecast.matters(key) >= IN_PLAY}
        return promoted

    def _cells_of_round(
        self, positions: Mapping[CellKey, int], stopped: Mapping[CellKey, Stop]
    ) -> list[Cell]:
        most = max(positions.values(), default=0)
        cells = []
        for cell in self._cells:
            key = cell.key
            if key in positions:
                allowed = allowed_positions(cell, self._protocol, positions[key])
                behind = allowed.design.is_cross_validation and positions[key] < most
                cells.append(replace(allowed, stop="no change" if behind else None))
            else:
                cells.append(cell)
        return cells
