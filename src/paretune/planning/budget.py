"""Which runs to train next within a time budget: a first score of every method, then the rest.

A method without a score may be anything, so its first score is worth the same whatever it is: the
cheapest methods come first, each with its trials and its first final run. Then the costs of what
has a score are measured, one after the other. One more final run of a method is worth how far it is
expected to raise the score of the best (the knowledge gradient for independent normal beliefs:
Frazier, Powell and Dayanik 2008)::

    value = s f(-gap / s),   s = sigma / sqrt(S (S + 1)),   f(z) = z Phi(z) + phi(z)

with ``gap`` the distance to the best of the others and sigma the scatter of runs, pooled as in
:mod:`paretune.analysis.pareto.expected_scores`. Runs are added a few at a time, so that each is
decided by all results before it. What is predicted to end too late is not begun. A race whose
answer is decided adds no final runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from paretune.analysis.cell import Cell
from paretune.analysis.cells import build_cells
from paretune.analysis.pareto.expected_scores import pool_run_variance
from paretune.analysis.pareto.front import expected_excess
from paretune.analysis.pareto.recommend import choose
from paretune.analysis.racing import DECIDED, foresee_choice, race_budget
from paretune.planning.expand import expand_study
from paretune.planning.prepare import PlannedRun, PreparedStudy
from paretune.store.record import Record
from paretune.study import NO_MODEL, Run, Study

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

    def choose(self, prepared: PreparedStudy, records: Sequence[Record]) -> list[PlannedRun]:
        """The runs that have ended, and those to train next.

        Raises:
            ParetuneError: as :func:`expand_study`.
        """
        study, planned = prepared.study, expand_study(prepared, records)
        ended = {record.run_id for record in records}
        left = [p for p in planned if p.run_id not in ended]
        free = [p for p in left if p.run.model == NO_MODEL]
        chosen, time_left = list(free), self.seconds_left() - len(free)
        rest = [p for p in left if p not in free]
        for step in self._rank_steps(study, rest, planned, records):
            workers_left = max(self.workers, 1) - len(chosen)
            if workers_left <= 0:
                break
            if step.seconds <= time_left:
                # The first step whole, since its runs may train together. Of others no more than
                # begin at once: what follows from the first comes before the rest of them.
                chosen += step.runs if chosen == free else step.runs[:workers_left]
                time_left -= step.seconds
        return [*(p for p in planned if p.run_id in ended), *chosen]

    def _rank_steps(
        self,
        study: Study,
        left: Sequence[PlannedRun],
        planned: Sequence[PlannedRun],
        records: Sequence[Record],
    ) -> list[_Step]:
        """The next step of each cell that needs one, the most urgent first."""
        ids = {p.run_id for p in planned}
        cells = build_cells(study, [record for record in records if record.run_id in ids])
        values: dict[CellName, float] = {}
        for task in study.tasks:
            of_task = [cell for cell in cells if cell.task == task.key]
            values |= _value_cells(of_task, study)
        scored = {(c.task, c.model, c.method) for c in cells if c.run_scores is not None}
        first: list[_Step] = []
        further: list[tuple[float, _Step]] = []
        costs: list[PlannedRun] = []
        by_cell: dict[CellName, list[PlannedRun]] = {}
        for p in left:
            by_cell.setdefault(p.cell, []).append(p)
        for name, runs in by_cell.items():
            to_train = [p for p in runs if p.run.stage != "cost"]
            value = values.get(name, 0.0)
            until_score = _runs_until_score(to_train, scored=name in scored)
            is_wanted = value > 0 or (name in scored and study.protocol.race == "off")
            if until_score and is_wanted:
                first.append(self._make_step(_next_runs(to_train), until_score))
                continue
            costs += [p for p in runs if p.run.stage == "cost"]
            if to_train and (value > 0 or study.protocol.race == "off"):
                step = _next_runs(to_train)
                further.append((value, self._make_step(step, step)))
        first.sort(key=lambda step: step.seconds)
        # Beside a cost nothing trains: while one is left to measure, no further run is asked for.
        # They are measured one after the other: those that fit in time.
        ends = accumulate(self.predict(p.run) or 0.0 for p in costs)
        time_left = self.seconds_left()
        fitting = [p for p, end in zip(costs, ends, strict=True) if end <= time_left]
        if fitting:
            return [*first, _Step(fitting, 0.0)]
        further.sort(key=lambda pair: -pair[0] / max(pair[1].seconds, 1e-3))
        return [*first, *(step for _, step in further)]

    def _make_step(self, runs: list[PlannedRun], until_score: Sequence[PlannedRun]) -> _Step:
        seconds = [self.predict(p.run) or 0.0 for p in until_score]
        return _Step(runs, max(sum(seconds) / max(self.workers, 1), *seconds))


@dataclass(frozen=True)
class _Step:
    """Runs to train at once; ``seconds``: until there is a result, by the wall clock."""

    runs: list[PlannedRun]
    seconds: float


def _runs_until_score(to_train: Sequence[PlannedRun], *, scored: bool) -> list[PlannedRun]:
    """What is left until a cell has a score on all test examples; ``scored``: it has one on some.

    A trial stands for the final run that will follow it, and takes about as long.
    """
    by_position: dict[int, list[PlannedRun]] = {}
    for p in to_train:
        if p.run.outer.repeat == 0 if p.run.outer else not scored:
            by_position.setdefault(_position(p.run), []).append(p)
    runs = []
    for here in by_position.values():
        trials = [p for p in here if p.run.stage == "tune"]
        finals = [p for p in here if p.run.stage == "final"]
        runs += [*trials, *(finals[:1] or trials[-1:])]
    return runs


def _next_runs(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Of what is left of a cell: the trials of the next position, or its next final run."""
    at = min(_position(p.run) for p in runs)
    here = [p for p in runs if _position(p.run) == at]
    return [p for p in here if p.run.stage == "tune"] or here[:1]


def _position(run: Run) -> int:
    return 0 if run.outer is None else run.outer.position


def _value_cells(cells: Sequence[Cell], study: Study) -> Mapping[CellName, float]:
    """What the next run of each cell of a task is worth, in points."""
    scored = [cell for cell in cells if cell.run_scores is not None]
    unknown = [c for c in cells if c.run_scores is None and not c.all_trials_failed]
    untried = METHOD_SPREAD_POINTS * float(expected_excess(0.0))
    values = {(c.task, c.model, c.method): untried for c in unknown if c.model != NO_MODEL.key}
    if not scored:
        return values
    if study.protocol.race != "off" and not any(not c.baseline for c in unknown):
        choice = choose(cells, race_budget(study.limits))
        if foresee_choice(cells, study.protocol, choice).agreement >= DECIDED:
            return {}
    scores = [c.run_scores for c in scored if c.run_scores is not None]
    means = np.array([score.estimate for score in scores])
    seeded = [s for c, s in zip(scored, scores, strict=True) if not c.deterministic]
    scatter = math.sqrt(pool_run_variance(seeded).variance)
    for row, (cell, score) in enumerate(zip(scored, scores, strict=True)):
        rivals = np.delete(means, row)
        if cell.deterministic or not len(rivals):
            continue
        change = scatter / math.sqrt(score.runs * (score.runs + 1))
        gap = abs(means[row] - rivals.max())
        gain = change * float(expected_excess(-gap / change))
        values[cell.task, cell.model, cell.method] = 100 * gain / score.highest
    return values
