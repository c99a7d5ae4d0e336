"""Lists all runs that should exist, given a prepared study and its records.

It is a pure function, called again whenever runs have ended.

``preset: trials``: trials of learning rates come first; when all trials of a cell have ended, its
rate is chosen and the final seeds appear; its cost comes last. In outer cross-validation each fold
of a cell has its own trials, rate and final run.

``preset: passes``: the final runs of the passes that :mod:`paretune.analysis.passes` gives to each
cell, fold by fold, so that every method has its first score early; trials of further rates where
evidence asks for them; and costs of what may still be chosen.

The same input gives the same runs, so the same command always continues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from paretune import methods
from paretune.analysis.cell import Cell, position_of
from paretune.analysis.cells import build_cells, group_into_cells, model_free_baselines
from paretune.analysis.learning_rates import (
    Sign,
    find_signs,
    judge_rates,
    list_further_rates,
    select_learning_rate,
)
from paretune.analysis.pareto.recommend import choose
from paretune.analysis.passes import PassState, count_pass_runs, decide_passes, limits_of
from paretune.errors import StudyError
from paretune.planning.prepare import PlannedRun, PreparedCell, PreparedStudy
from paretune.store import Record, Store
from paretune.study import NO_MODEL, MethodSpec, OuterFold, Run, Study
from paretune.study.run import is_trial
from paretune.study.specs import Proposer

CellKey = tuple[str, str, str]
MISSING_FIRST_LOOKS = 2
"""How many first looks may be missing when further folds begin: some workers are free by then."""
MAX_ROWS_FOR_FOLDS = 500
"""With fewer training rows, rates are chosen by the mean over folds."""


def expand_study(prepared: PreparedStudy, records: Sequence[Record]) -> list[PlannedRun]:
    """List all runs of the study, given the records that exist, in the order to run them.

    With ``protocol.cost_seconds: 0`` there are no cost runs.

    Raises:
        StudyError: two cells of the study would be the same runs under two names.
        ParetuneError: data, a model or a method cannot be used.
    """
    study, ended = prepared.study, {record.run_id: record for record in records}
    requested = _plan_runs(prepared, ended)
    first: dict[str, Run] = {}
    for p in requested:
        earlier = first.setdefault(p.run_id, p.run)
        if earlier.cell != p.run.cell:
            raise StudyError(
                f"{' x '.join(earlier.cell)} and {' x '.join(p.run.cell)} are the same run.",
                remedy="They differ in nothing but their names: remove one, or change it.",
            )
    # A run appears once, however many cells ask for it.
    distinct = {(p.run_id, p.proposed_by): p for p in requested}
    planned = [p for p in distinct.values() if study.protocol.cost_seconds or p.run.stage != "cost"]
    if not study.protocol.rows or any(p.run_id not in ended for p in planned):
        return planned
    # Runs on shares of the labelled rows come last.
    cells, runs = group_into_cells(study, records), list[Run]()
    if study.protocol.until == "complete":
        runs = [record.run for cell in cells for record in cell.final]
    else:
        for task in study.tasks:
            of_task = [cell for cell in cells if cell.task == task.key]
            if (chosen := choose(of_task, limits_of(study.limits)).chosen) is not None:
                runs += [record.run for record in chosen.cell.trained]
    return [*planned, *_plan_on_shares(prepared, runs)]


def hold_back_folds(
    planned: Sequence[PlannedRun], records: Sequence[Record], seeds: Sequence[int]
) -> list[PlannedRun]:
    """Leave out further folds of methods while more than two first looks are missing.

    Runs of several folds may train together, which would delay the first answer.

    Args:
        seeds: seeds of the study.
    """
    ended = {record.run_id for record in records}
    with_model = [p for p in planned if p.run.model != NO_MODEL]
    first = [p for p in with_model if p.run.stage == "final" and not position_of(p.run, seeds)]
    if sum(p.run_id not in ended for p in first) <= MISSING_FIRST_LOOKS:
        return list(planned)
    return [p for p in planned if p.run.model == NO_MODEL or p.run_id in ended or p in first]


def put_long_runs_first(
    planned: Sequence[PlannedRun], seconds: Mapping[str, float], seeds: Sequence[int]
) -> list[PlannedRun]:
    """Sort the runs of each fold by their predicted seconds, so that workers end it together.

    Args:
        seconds: predicted seconds by run id.
        seeds: seeds of the study.
    """

    def fold(planned_run: PlannedRun) -> tuple[bool, bool, int | None]:
        run = planned_run.run
        return run.stage == "cost", run.model == NO_MODEL, position_of(run, seeds)

    return [
        planned_run
        for _, runs in groupby(planned, fold)
        for planned_run in sorted(runs, key=lambda p: -seconds.get(p.run_id, 0.0))
    ]


@dataclass(frozen=True)
class RunPlan:
    """The runs of a study, given what has ended.

    Attributes:
        runs: runs by id in the order to run them: those to train now and those that have ended.
        later: runs that will follow: their rate is not chosen, or they are the rest of a pass.
    """

    runs: Mapping[str, Run]
    later: tuple[Run, ...] = ()

    def list_coming(self, records: Sequence[Record]) -> list[Run]:
        """List the runs that have not ended, including those that will follow."""
        ended = {record.run_id for record in records}
        left = [run for run_id, run in self.runs.items() if run_id not in ended]
        return [*left, *self.later]


def plan_runs(prepared: PreparedStudy, records: Sequence[Record]) -> RunPlan:
    """Plan the runs that exist or can start now, and those that wait.

    A run that waits for its rate gets the middle one of those on trial, which is enough to predict
    its cost. Further passes may not be wanted, so they are left out.

    Raises:
        ParetuneError: a condition of :func:`expand_study` does not hold.
    """
    states = find_states(prepared, records)
    ready, protocol = expand_study(prepared, records), prepared.study.protocol
    runs = {p.run_id: p.run for p in ready}
    if prepared.preset is not None:
        return RunPlan(runs)
    ended = {record.run_id for record in records}
    final = {(p.run.cell, p.run.outer) for p in ready if p.run.stage == "final"}
    tuned: dict[tuple[CellKey, OuterFold | None], list[PlannedRun]] = {}
    for planned in ready:
        if planned.run.stage == "tune" and not states:
            tuned.setdefault((planned.run.cell, planned.run.outer), []).append(planned)
    waiting: list[Run] = []
    for (cell_key, outer), trials in tuned.items():
        if is_trial(trials[0].run):
            continue  # a proposer decides what follows
        if (cell_key, outer) in final or all(trial.run_id in ended for trial in trials):
            continue  # without a final run, every trial failed: no run will follow
        tried = list(dict.fromkeys(trial.run.learning_rate for trial in trials))
        waiting += [
            trials[0].run.model_copy(
                update={"stage": "final", "seed": seed, "learning_rate": tried[len(tried) // 2]}
            )
            for seed in (protocol.seeds if outer is None else (protocol.seeds[outer.position],))
        ]
    if states and protocol.cost_seconds and prepared.shard is None:
        # Until the first pass has ended it is not known whose costs are measured.
        waiting += [
            prepared.make_run(cell, "cost", rates[len(rates) // 2] if rates else None, seed)
            for cell in prepared.cells
            if states[cell.task.key].in_play is None
            and cell.method.proposer is None
            and not cell.method.is_command
            for seed in protocol.seeds[:1]
            for rates in [list_rates(prepared, cell)]
            if rates is not None
        ]
    if any(p.run_id not in ended for p in ready) and not any(p.run.rows < 1 for p in ready):
        on_shares = _plan_on_shares(prepared, [*(p.run for p in ready), *waiting])
        # Assume that the first method is recommended.
        firsts = {p.run.task.key: p.cell for p in reversed(on_shares)}
        of_all = protocol.until == "complete"
        waiting += [p.run for p in on_shares if of_all or p.cell == firsts[p.run.task.key]]
    return RunPlan(runs, tuple(waiting))


def find_possible_run_ids(
    prepared: PreparedStudy, records: Sequence[Record] = ()
) -> frozenset[str]:
    """Return the ids of all runs that the study can have with its present data, models and code.

    They do not depend on ended runs, except for proposed runs. They include final runs at every
    rate that may be chosen, of all shares, in every precision that ``auto`` may mean.
    """
    precisions = [prepared.precisions]
    if prepared.study.training.precision == "auto":
        precisions = [dict.fromkeys(prepared.precisions, name) for name in ("fp32", "bf16")]
    ended = {record.run_id: record for record in records}
    return frozenset(
        planned.run_id
        for by_model in precisions
        for planned in _plan_runs(
            replace(prepared, precisions=by_model, shard=None), ended, rates_chosen=False
        )
    )


def leave_out_stale_runs(prepared: PreparedStudy, store: Store) -> int:
    """Leave out the study's runs of earlier data, models or code; return their number."""
    # A proposer reads the answers of its trials.
    proposes = any(method.proposer is not None for method in prepared.study.methods)
    records = store.load_records(prepared.study.study_hash, predictions=proposes)
    possible = find_possible_run_ids(prepared, records)
    return store.leave_out(prepared.study.study_hash, possible)


def _plan_runs(
    prepared: PreparedStudy, ended: Mapping[str, Record], *, rates_chosen: bool = True
) -> list[PlannedRun]:
    """Plan the runs of a study given ended runs; otherwise with every rate that may be chosen."""
    study, shard = prepared.study, prepared.shard
    states = find_states(prepared, [*ended.values()]) if rates_chosen else {}
    if prepared.preset is not None:
        pinned = study.model_copy(update={"tasks": prepared.tasks, "models": prepared.models})
        return [
            PlannedRun(prepared.caches.identify(run), run)
            for run in prepared.preset.expand(pinned)
            if shard is None or shard.has(run.cell)
        ]
    planned: list[PlannedRun] = []
    searches: dict[Proposer, list[PreparedCell]] = {}
    for cell in prepared.cells:
        proposer = cell.method.proposer
        if proposer is not None and (shard is None or shard.has(cell.key, proposed=True)):
            searches.setdefault(proposer, []).append(cell)
    proposed: dict[CellKey, Sequence[PlannedRun]] = {}
    for proposer, cells in searches.items():
        answers = proposer.propose(prepared, cells, ended)
        proposed |= {cell.key: runs for cell, runs in zip(cells, answers, strict=True)}
    for task in prepared.tasks:
        free = [
            PreparedCell(task, NO_MODEL, MethodSpec(name=name))
            for name in model_free_baselines(task, prepared.datasets[task.key].objective)
        ]
        for cell in (*free, *(cell for cell in prepared.cells if cell.task == task)):
            state = states.get(task.key)
            if cell.method.proposer is not None:
                runs = proposed.get(cell.key, ())
                planned += [p for p in runs if _is_reached(p.run, cell.key[1:], state, study)]
            elif shard is None or shard.has(cell.key):
                planned += _plan_cell(prepared, cell, ended if rates_chosen else None, state)
    if shard is not None:
        planned = [p for p in planned if p.run.stage != "cost"]
    if not rates_chosen:  # any method may be recommended
        planned += _plan_on_shares(prepared, [p.run for p in planned])
    stages = {"tune": 1, "final": 2, "cost": 3}

    def order(planned_run: PlannedRun) -> tuple[int, int]:
        run = planned_run.run
        if states and run.stage != "cost":
            # First looks come before all, and every method runs the next fold before any goes on.
            return int(run.model != NO_MODEL), position_of(run, study.protocol.seeds) or 0
        # Baselines without a model take a second, so they come first.
        return 0 if run.model == NO_MODEL else stages[run.stage], 0

    return sorted(planned, key=order)


def _is_reached(run: Run, key: tuple[str, str], state: PassState | None, study: Study) -> bool:
    if state is None:
        return True
    if run.stage == "cost":
        return state.in_play is not None and key in state.in_play
    size = count_pass_runs(run.outer.folds if run.outer else 0, study.protocol.seeds)
    return (position_of(run, study.protocol.seeds) or 0) < state.positions.get(key, size)


def find_states(prepared: PreparedStudy, records: Sequence[Record]) -> Mapping[str, PassState]:
    """Return how far the passes of each task are; empty for other presets."""
    study = prepared.study
    if study.protocol.preset != "passes":
        return {}
    planned = {(cell.task.key, *cell.key[1:]) for cell in prepared.cells}
    cells: dict[str, list[Cell]] = {task.key: [] for task in study.tasks}
    for cell in build_cells(study, records):
        if (cell.task, *cell.key) in planned or cell.model == NO_MODEL.key:
            cells[cell.task].append(cell)
    waiting: dict[str, set[tuple[str, str]]] = {task.key: set() for task in study.tasks}
    ended = {record.run_id: record for record in records}
    shard, seeds = prepared.shard, study.protocol.seeds
    for candidate in prepared.cells:
        rates = list_rates(prepared, candidate)
        is_elsewhere = shard is not None and not shard.has(candidate.key)
        if candidate.method.proposer is not None or not rates or is_elsewhere:
            continue
        # Runs that decide its rate, or first runs at the rate it moves to, may not have ended.
        design = prepared.designs[candidate.task.key]
        places = list(design.place_seeds(seeds[: count_pass_runs(design.folds, seeds)]))
        runs = _plan_rates(prepared, candidate, rates, places, ended)
        if any(p.run_id not in ended for p in runs):
            waiting[candidate.task.key].add(candidate.key[1:])
    # A shard has a part of the methods to compare, so it trains the first pass only.
    if shard is not None and study.protocol.until == "settled":
        sizes = {task: count_pass_runs(prepared.designs[task].folds, seeds) for task in cells}
        return {
            task: PassState({cell.key: sizes[task] for cell in of_task})
            for task, of_task in cells.items()
        }
    return {task: decide_passes(of_task, study, waiting[task]) for task, of_task in cells.items()}


def _plan_cell(
    prepared: PreparedStudy,
    cell: PreparedCell,
    ended: Mapping[str, Record] | None,
    state: PassState | None,
) -> list[PlannedRun]:
    """Plan the runs of a cell given ended runs; with None, plan all possible runs.

    Args:
        state: passes of its task; None for other presets.
    """
    study, make = prepared.study, partial(prepared.plan_run, cell)
    protocol = study.protocol
    seeds = protocol.seeds
    design = prepared.designs[cell.task.key]
    if state is not None:
        size = count_pass_runs(design.folds, seeds)
        seeds = seeds[: state.positions.get(cell.key[1:], size)]
    places = list(design.place_seeds(seeds))
    if cell.model == NO_MODEL:  # one run; in cross-validation one for each fold
        return [make("final", None, of_fold[0], outer=outer) for outer, of_fold in places]
    rates = list_rates(prepared, cell)
    if rates is None:
        return []
    in_play = state is None or (state.in_play is not None and cell.key[1:] in state.in_play)
    measured = in_play and not cell.method.is_command  # a command is measured while it runs
    if rates == ():
        if not reads_training_rows(cell.method):
            # No seed, rate or training row changes the answers: one answer to each row is enough.
            once = [outer for outer, _ in places if outer is None or outer.repeat == 0]
            places = [(outer, [seeds[0]]) for outer in once]
        finals = [make("final", None, s, outer=outer) for outer, of_fold in places for s in of_fold]
        return [*finals, *([make("cost", None, seeds[0])] if measured else ())]
    plan = _plan_rates if protocol.preset == "passes" else _plan_trials
    cost = make("cost", rates[len(rates) // 2], seeds[0])
    return [*plan(prepared, cell, rates, places, ended), *([cost] if measured else ())]


def reads_training_rows(method: MethodSpec) -> bool:
    """Return whether answers of a method without a learning rate depend on training rows."""
    return method.is_command or bool(methods.configure(method).options.shots)


Places = Sequence[tuple[OuterFold | None, Sequence[int]]]
"""The outer folds, or None for a split, each with its seeds."""


def _plan_trials(
    prepared: PreparedStudy,
    cell: PreparedCell,
    rates: Sequence[float],
    places: Places,
    ended: Mapping[str, Record] | None,
) -> list[PlannedRun]:
    """Plan trials of every rate in every fold, and final runs at the rate of each fold."""
    study, make = prepared.study, partial(prepared.plan_run, cell)
    rows = len(prepared.datasets[cell.task.key].train)
    trials: list[PlannedRun] = []
    finals: list[PlannedRun] = []
    for outer, seeds in places:
        # Every rate is tried on the parts of train that take a turn as selection part.
        tuning = [
            make("tune", rate, study.protocol.tuning_seed, fold=fold, outer=outer)
            for rate in (rates if len(rates) > 1 else ())
            for fold in range(count_folds(study, rows) if outer is None else 1)
        ]
        chosen: Sequence[float] = rates
        if tuning and ended is not None:
            results = [ended[trial.run_id] for trial in tuning if trial.run_id in ended]
            best = None  # while trials run, or where all failed
            if len(results) == len(tuning):
                best = select_learning_rate(results).rate
            chosen = () if best is None else (best,)
        trials += tuning
        finals += [make("final", rate, s, outer=outer) for rate in chosen for s in seeds]
    return [*trials, *finals]


def _plan_rates(
    prepared: PreparedStudy,
    cell: PreparedCell,
    rates: Sequence[float],
    places: Places,
    ended: Mapping[str, Record] | None,
) -> list[PlannedRun]:
    """Plan final runs at the middle rate, and at rates that evidence or the study asks for."""
    make = partial(prepared.plan_run, cell, "final")
    middle = rates[len(rates) // 2]
    seeded = [(outer, seed) for outer, seeds in places for seed in seeds]
    folds = places[0][0].folds if places[0][0] is not None else 0
    size = count_pass_runs(folds, [seed for _, seed in seeded])

    def at(rate: float, where: Sequence[tuple[OuterFold | None, int]]) -> list[PlannedRun]:
        begun_at = None if rate == middle else middle
        return [make(rate, seed, outer=outer, begun_at=begun_at) for outer, seed in where]

    if ended is None:
        return [planned for rate in rates for planned in at(rate, seeded)]
    finals = at(middle, seeded)
    first = finals[:size]
    records = [ended[p.run_id] for p in first if p.run_id in ended]
    if len(rates) == 1 or len(records) < len(first):
        return finals
    signs: Iterable[Sign] = ()
    if prepared.study.protocol.trials == 1:
        signs = find_signs(records)
        if not signs:
            return finals
    tried = [
        planned for rate in list_further_rates(rates, signs) for planned in at(rate, seeded[:size])
    ]
    results = [ended[p.run_id] for p in tried if p.run_id in ended]
    if len(results) < len(tried):
        return [*first, *tried]
    rate = judge_rates(records, results).rate
    if rate is None or rate == middle:
        return [*finals, *tried]
    return [*first, *tried, *at(rate, seeded)]


def list_rates(prepared: PreparedStudy, cell: PreparedCell) -> tuple[float, ...] | None:
    """List the learning rates of a cell, rising: () for none; None for a baseline."""
    configured = methods.configure(cell.method)
    if cell.method.is_command:
        return cell.method.learning_rates or ()
    if isinstance(configured, methods.ConfiguredBaseline):
        return None
    default_rates = configured.learning_rates(prepared.topologies[cell.model.key])
    if default_rates is None:
        return ()
    return choose_learning_rates(cell.method, default_rates, prepared.study.protocol.most_rates)


def _plan_on_shares(prepared: PreparedStudy, runs: Iterable[Run]) -> list[PlannedRun]:
    """Plan these runs on each share of the labelled rows that the study asks for.

    Baselines are included only with ``until: complete``.
    """
    protocol = prepared.study.protocol
    shares = () if prepared.shard is not None else protocol.rows
    finals = [run for run in runs if run.stage == "final"]
    if protocol.until == "complete":
        trained = [
            run
            for run in finals
            if run.learning_rate is not None
            or run.model == NO_MODEL
            or reads_training_rows(run.method)
        ]
    else:
        trained = [run for run in finals if run.learning_rate is not None]
    on_shares = [run.on_rows(share) for share in shares for run in trained]
    return [PlannedRun(prepared.caches.identify(run), run) for run in on_shares]


def count_folds(study: Study, training_rows: int) -> int:
    """Return how many parts of train take a turn as selection part."""
    return study.protocol.folds if training_rows < MAX_ROWS_FOR_FOLDS else 1


def choose_learning_rates(spec: MethodSpec, rates: methods.Rates, trials: int) -> tuple[float, ...]:
    """Choose ``trials`` learning rates that a method tries, the same number for all methods.

    They are the study's list, which has that many; otherwise rates at equal ratios from the
    method's lowest to its highest (``rates``).
    """
    if spec.learning_rates is not None:
        return spec.learning_rates
    low, middle, high = rates
    if trials == 1:
        return (middle,)
    if trials == 3:
        return (low, middle, high)
    ratio = (high / low) ** (1 / (trials - 1))
    return tuple(float(f"{low * ratio**i:.3g}") for i in range(trials))
