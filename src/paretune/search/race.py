"""The runs of a study that may still change its answer, given the records so far.

A pure function like :func:`paretune.search.expand.expand_study`, of whose runs it returns a part:
called again with the same records it asks for the same runs, so an interrupted race continues and
several workers race together. It asks for baselines and costs, then for trials, then for final runs
round by round (:mod:`paretune.analysis.racing.rounds`). Runs of another round are never needed to
decide one, so it does not matter which runs ended first.

A race changes no run: their identities are those of the full study, which a store can continue to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paretune.analysis.cells import build_cells
from paretune.analysis.pareto.expected_scores import CellKey
from paretune.analysis.racing.rounds import RaceState, decide_rounds
from paretune.methods import baselines
from paretune.planning.prepare import PreparedStudy
from paretune.search.expand import PlannedRun, expand_study, plan_pending_runs
from paretune.store.record import Record
from paretune.study import NO_MODEL, Run, Study


@dataclass(frozen=True)
class StudyRace:
    """The runs of a raced study.

    Attributes:
        runs: those to train, ended ones included, in the order to run them.
        undecided: those that later rounds may ask for.
        given_up: those of the full study that the race has decided not to train.
        states: of each task.
    """

    runs: tuple[PlannedRun, ...]
    undecided: tuple[Run, ...]
    given_up: tuple[Run, ...]
    states: Mapping[str, RaceState]


def plan_wanted_runs(prepared: PreparedStudy, records: Sequence[Record]) -> list[PlannedRun]:
    """The runs to train now and those that have ended: all where nothing is raced.

    A shard does not race: it has a part of the methods that would be compared.

    Raises:
        ParetuneError: as :func:`expand_study`.
    """
    study, planned = prepared.study, expand_study(prepared, records)
    if study.protocol.race == "off" or prepared.shard is not None:
        return planned
    states = _decide(study, planned, records)
    return [p for p in planned if _is_wanted(p, study, states[p.run.task.key])]


def plan_runs(
    prepared: PreparedStudy, records: Sequence[Record]
) -> tuple[list[PlannedRun], list[Run]]:
    """As :func:`plan_pending_runs`: of a race, what is wanted and what may be wanted later."""
    if prepared.study.protocol.race == "off" or prepared.shard is not None:
        return plan_pending_runs(prepared, records)
    race = plan_race(prepared, records)
    return list(race.runs), list(race.undecided)


def plan_race(prepared: PreparedStudy, records: Sequence[Record]) -> StudyRace:
    """All runs of the full study, by what the race has decided of them."""
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
            if (run.cell, run.outer) not in with_final
        ),
    ]
    # Several searches may ask for the same trial, and it counts once: undecided while one may.
    undecided: dict[str, Run] = {}
    given_up: dict[str, Run] = {}
    for run_id, run, (task, *key), dropped in later:
        state = states[task]
        over = dropped or state.over or tuple(key) in state.stopped
        (given_up if over else undecided).setdefault(run_id, run)
    spared = [run for run_id, run in given_up.items() if run_id not in undecided]
    return StudyRace(tuple(chosen), tuple(undecided.values()), tuple(spared), states)


def _decide(
    study: Study, planned: Sequence[PlannedRun], records: Sequence[Record]
) -> dict[str, RaceState]:
    ids = {p.run_id for p in planned}
    cells = build_cells(study, [record for record in records if record.run_id in ids])
    tuned = _find_tuned(planned, records)
    ended = {record.run_id for record in records}
    # A search that has ended without a final run, since every trial failed, is left out.
    with_runs = {p.cell for p in planned if not p.searched_by or p.run_id not in ended}
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
    run, (_, *key) = planned.run, planned.cell
    return _wants(run, (key[0], key[1]), study, state)


def _wants(run: Run, key: CellKey, study: Study, state: RaceState) -> bool:
    if run.model == NO_MODEL or run.stage == "cost" or run.method.name in baselines.NAMES:
        return True
    if run.outer is not None:
        return run.outer.position < state.positions.get(key, 0)
    if run.stage == "tune":
        return state.measured and state.stopped.get(key) != "limit"
    return study.protocol.seeds.index(run.seed) < state.positions[key]
