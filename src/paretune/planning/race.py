"""The runs of a study that may still change its answer, given the records so far.

A pure function like :func:`paretune.planning.expand.expand_study`, of whose runs it returns a part:
called again with the same records it asks for the same runs, so an interrupted race continues and
several workers race together. It asks for baselines and costs, then for trials, then for final runs
round by round (:mod:`paretune.analysis.racing`). Runs of another round are never needed to
decide one, so it does not matter which runs ended first.

A race changes no run: their identities are those of the full study, which a store can continue to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paretune.analysis.cells import build_cells
from paretune.analysis.racing import RaceState, decide_rounds
from paretune.methods import baselines
from paretune.planning.expand import expand_study, plan_pending_runs
from paretune.planning.prepare import PlannedRun, PreparedStudy
from paretune.store.record import Record
from paretune.study import NO_MODEL, Run, Study


@dataclass(frozen=True)
class RunPlan:
    """The runs of a study, given what has ended.

    Attributes:
        runs: those to train now and those that have ended, by id, in the order to run them.
        undecided: those that may follow: their rate is not chosen, or later rounds of a race may
            ask for them.
        given_up: those of the full study that a race has decided not to train.
    """

    runs: Mapping[str, Run]
    undecided: tuple[Run, ...]
    given_up: tuple[Run, ...] = ()

    def list_coming(self, records: Sequence[Record]) -> list[Run]:
        """The runs that have not ended, those that may follow included."""
        ended = {record.run_id for record in records}
        left = [run for run_id, run in self.runs.items() if run_id not in ended]
        return [*left, *self.undecided]


def plan_wanted_runs(prepared: PreparedStudy, records: Sequence[Record]) -> list[PlannedRun]:
    """The runs to train now and those that have ended: all where nothing is raced.

    A shard does not race: it has a part of the methods that would be compared.

    Raises:
        ParetuneError: as :func:`expand_study`.
    """
    study, planned = prepared.study, expand_study(prepared, records)
    if not _is_raced(prepared):
        return planned
    states = _decide(study, planned, records)
    return [p for p in planned if _is_wanted(p, study, states[p.run.task.key])]


def _is_raced(prepared: PreparedStudy) -> bool:
    return prepared.study.protocol.race != "off" and prepared.shard is None


def plan_runs(prepared: PreparedStudy, records: Sequence[Record]) -> RunPlan:
    """All runs of the study, by what is known of them and what a race has decided.

    Raises:
        ParetuneError: as :func:`expand_study`.
    """
    if not _is_raced(prepared):
        ready, waiting = plan_pending_runs(prepared, records)
        return RunPlan({p.run_id: p.run for p in ready}, tuple(waiting))
    study, planned = prepared.study, expand_study(prepared, records)
    states = _decide(study, planned, records)
    ended = {record.run_id for record in records}
    chosen = [
        p for p in planned if p.run_id in ended or _is_wanted(p, study, states[p.run.task.key])
    ]
    protocol = study.protocol.model_copy(update={"race": "off"})
    whole = study.model_copy(update={"protocol": protocol})
    ready, waiting = plan_pending_runs(replace(prepared, study=whole), records)
    counted = {p.run_id for p in chosen} | ended
    ids = {p.run_id for p in planned}
    with_final = {(p.run.cell, p.run.outer) for p in planned if p.run.stage == "final"}
    tuned = _find_tuned(planned, records)
    on_shares = any(p.run.rows < 1 for p in planned)
    later = [
        *((p.run_id, p.run, p.cell, False) for p in planned if p.run_id not in counted),
        *(  # a dropped rate
            (p.run_id, p.run, p.run.cell, (*p.run.cell, p.run.outer) in tuned)
            for p in ready
            if p.run.stage == "tune" and p.run_id not in ids | counted
        ),
        *(
            (prepared.caches.identify(run), run, run.cell, False)
            for run in waiting
            if (not on_shares if run.rows < 1 else (run.cell, run.outer) not in with_final)
        ),
    ]
    # Several cells may ask for the same trial, and it counts once: undecided while one may.
    undecided: dict[str, Run] = {}
    given_up: dict[str, Run] = {}
    for run_id, run, (task, *key), dropped in later:
        state = states[task]
        over = dropped or state.over or tuple(key) in state.stopped
        (given_up if over else undecided).setdefault(run_id, run)
    spared = [run for run_id, run in given_up.items() if run_id not in undecided]
    return RunPlan({p.run_id: p.run for p in chosen}, tuple(undecided.values()), tuple(spared))


def _decide(
    study: Study, planned: Sequence[PlannedRun], records: Sequence[Record]
) -> dict[str, RaceState]:
    ids = {p.run_id for p in planned}
    cells = build_cells(study, [record for record in records if record.run_id in ids])
    tuned = _find_tuned(planned, records)
    ended = {record.run_id for record in records}
    # A cell whose proposed trials have all failed has no final run, and is left out.
    with_runs = {p.cell for p in planned if not p.proposed_by or p.run_id not in ended}
    states = {}
    for task in study.tasks:
        of_task = [
            cell
            for cell in cells
            if cell.task == task.key and (cell.task, cell.model, cell.method) in with_runs
        ]
        ready = frozenset(
            (cell.model, cell.method)
            for cell in of_task
            if (cell.task, cell.model, cell.method, None) in tuned
        )
        states[task.key] = decide_rounds(of_task, study, ready)
    return states


def _find_tuned(planned: Sequence[PlannedRun], records: Sequence[Record]) -> frozenset[object]:
    """Cells, with their outer fold, of which no trial is left."""
    ended = {record.run_id for record in records}
    left: dict[object, bool] = {}
    for p in planned:
        if p.run.stage != "cost":
            place = (*p.cell, p.run.outer)
            waits = p.run.stage == "tune" and p.run_id not in ended
            left[place] = left.get(place, False) or waits
    return frozenset(place for place, waits in left.items() if not waits)


def _is_wanted(planned: PlannedRun, study: Study, state: RaceState) -> bool:
    run, (_, model, method) = planned.run, planned.cell
    if run.model == NO_MODEL or run.stage == "cost" or run.method.name in baselines.NAMES:
        return True
    if run.outer is not None:
        return run.outer.position < state.positions.get((model, method), 0)
    if run.stage == "tune":
        return state.measured and state.stopped.get((model, method)) != "limit"
    return study.protocol.seeds.index(run.seed) < state.positions[model, method]
