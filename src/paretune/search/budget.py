"""Which runs to train next within a time budget: those that tell most per predicted second.

A method without a score may be anything, so its first score is worth the same whatever it is: the
cheapest methods come first, each with its cost, its trials and its first final run. One more final
run of a method is worth how far it is expected to raise the score of the best (the knowledge
gradient for independent normal beliefs: Frazier, Powell and Dayanik 2008)::

    value = s f(-gap / s),   s = sigma / sqrt(S (S + 1)),   f(z) = z Phi(z) + phi(z)

with ``gap`` the distance to the best of the others and sigma the scatter of runs, pooled as in
:mod:`paretune.analysis.racing.completions`. Runs are added a few at a time, so that each is decided
by all results before it. A race whose answer is decided adds none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.cells import build_cells
from paretune.analysis.pareto.recommend import choose
from paretune.analysis.racing.completions import pool_run_scatter, tabulate_scores
from paretune.analysis.racing.rounds import DECIDED, foresee_choice, race_budget
from paretune.analysis.statistics.expected_excess import expected_excess
from paretune.planning.context import NO_MODEL, StudyContext
from paretune.planning.expand import PlannedRun, expand_study
from paretune.store.record import Record
from paretune.study import Run, Study

METHOD_SPREAD_POINTS = 10.0
"""Standard deviation of methods' scores before any is known."""

CellName = tuple[str, str, str]


@dataclass(frozen=True)
class TimeBudget:
    """What is left, and what runs take.

    Attributes:
        seconds_left: wall clock.
        workers: runs that train at the same time.
        predict: seconds of a run on one worker; None where it is not known.
    """

    seconds_left: Callable[[], float]
    workers: int
    predict: Callable[[Run], float | None]

    def choose(
        self, study: Study, context: StudyContext, records: Sequence[Record]
    ) -> list[PlannedRun]:
        """The runs that have ended, and those to train next.

        Raises:
            ParetuneError: as :func:`expand_study`.
        """
        planned = expand_study(study, context, records)
        ended = {record.run_id for record in records}
        left = [one for one in planned if one.run_id not in ended]
        free = [one for one in left if one.run.model == NO_MODEL]
        steps = self._rank_steps(study, [one for one in left if one not in free], planned, records)
        chosen, seconds = free, float(len(free))
        for step in steps:
            if len(chosen) >= max(self.workers, 1):
                break
            added = sum(self.predict(one.run) or 0.0 for one in step) / max(self.workers, 1)
            if seconds + added <= self.seconds_left():
                chosen, seconds = [*chosen, *step], seconds + added
        return [*(one for one in planned if one.run_id in ended), *chosen]

    def _rank_steps(
        self,
        study: Study,
        left: Sequence[PlannedRun],
        planned: Sequence[PlannedRun],
        records: Sequence[Record],
    ) -> list[list[PlannedRun]]:
        """The next step of each cell that needs one, most valuable per second first."""
        ids = {one.run_id for one in planned}
        cells = build_cells(study, [record for record in records if record.run_id in ids])
        values: dict[CellName, float] = {}
        for task in study.tasks:
            own = [cell for cell in cells if cell.task == task.key]
            values |= _value_cells(own, study)
        by_cell: dict[CellName, list[PlannedRun]] = {}
        for one in left:
            by_cell.setdefault(one.cell, []).append(one)
        ranked = []
        for name, runs in by_cell.items():
            value = values.get(name, 0.0)
            scored = any(
                c.bootstrap is not None for c in cells if (c.task, c.model, c.method) == name
            )
            step = _next_step(runs)
            priced = step if scored else runs
            seconds = sum(self.predict(one.run) or 0.0 for one in priced)
            if value > 0 or study.protocol.race == "off":
                ranked.append((value / max(seconds, 1e-3), step))
        return [step for _, step in sorted(ranked, key=lambda pair: -pair[0])]


def _next_step(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Of what is left of a cell: its cost; the trials of the next position; its next final run."""
    costs = [one for one in runs if one.run.stage == "cost"]
    if costs:
        return costs
    at = min(_position(one.run) for one in runs)
    here = [one for one in runs if _position(one.run) == at]
    trials = [one for one in here if one.run.stage == "tune"]
    return trials or here[:1]


def _position(run: Run) -> int:
    return 0 if run.outer is None else run.outer.position


def _value_cells(cells: Sequence[Cell], study: Study) -> Mapping[CellName, float]:
    """What the next run of each cell of a task is worth, in points."""
    scored = [cell for cell in cells if cell.bootstrap is not None]
    unknown = [c for c in cells if c.bootstrap is None and not c.all_trials_failed]
    untried = METHOD_SPREAD_POINTS * float(expected_excess(0.0))
    values = {(c.task, c.model, c.method): untried for c in unknown if c.model != NO_MODEL.key}
    if not scored:
        return values
    if study.protocol.race != "off" and not any(not c.baseline for c in unknown):
        choice = choose(cells, race_budget(study.limits))
        if foresee_choice(cells, study.protocol, choice).agreement >= DECIDED:
            return {}
    table = tabulate_scores(scored, study.protocol)
    scatter = pool_run_scatter(table)
    means = np.array([c.bootstrap.estimate for c in scored if c.bootstrap is not None])
    for row, cell in enumerate(scored):
        count = int(table.counts[row])
        others = np.delete(means, row)
        if cell.deterministic or count == 0 or not len(others):
            continue
        change = scatter[row] / math.sqrt(count * (count + 1))
        gap = abs(means[row] - others.max())
        gain = change * float(expected_excess(-gap / change)) if change > 0 else 0.0
        values[cell.task, cell.model, cell.method] = 100 * gain / table.highest
    return values
