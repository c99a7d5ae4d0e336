"""From a prepared study and the records so far to all runs that should exist.

A pure function, called again whenever runs have ended: trials of learning rates come first; when
all trials of a cell have ended, its rate is chosen and the final seeds appear; its cost comes last.
In outer cross-validation each fold of a cell has its own trials, rate and final run.
In a race (``protocol.race``) the next fold is tried with the rates that are not clearly behind;
which of these runs are trained at all is decided by :mod:`paretune.planning.race`.
The same input gives the same runs, so the same command always continues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from paretune import methods
from paretune.analysis.cells import group_into_cells, model_free_baselines
from paretune.analysis.learning_rates import find_rates_in_play, select_learning_rate
from paretune.analysis.pareto.recommend import choose
from paretune.analysis.racing import race_budget
from paretune.errors import StudyError
from paretune.planning.prepare import PlannedRun, PreparedCell, PreparedStudy
from paretune.store import Record, Store
from paretune.study import NO_MODEL, MethodSpec, OuterFold, Run, Study
from paretune.study.run import is_trial
from paretune.study.specs import Proposer

CellKey = tuple[str, str, str]
MAX_ROWS_FOR_FOLDS = 500
"""Below this many training rows, rates are chosen by the mean over folds."""


def expand_study(prepared: PreparedStudy, records: Sequence[Record]) -> list[PlannedRun]:
    """All runs of the study, given the records that exist, in the order to run them.

    With ``protocol.cost_seconds: 0`` no costs are among them.

    Raises:
        StudyError: two cells of the study would be the same runs under two names.
        ParetuneError: data, a model or a method cannot be used.
    """
    planned = _check_distinct(_plan_runs(prepared, {r.run_id: r for r in records}))
    if not prepared.study.protocol.cost_seconds:
        planned = [p for p in planned if p.run.stage != "cost"]
    return [*planned, *_plan_fewer_rows(prepared, planned, records)]


def plan_pending_runs(
    prepared: PreparedStudy, records: Sequence[Record]
) -> tuple[list[PlannedRun], list[Run]]:
    """The runs that exist or can start now, and final runs that wait for their rate.

    A waiting run has the middle one of the rates on trial, which is enough to predict its cost.
    """
    ready, protocol = expand_study(prepared, records), prepared.study.protocol
    if prepared.preset is not None:
        return ready, []
    final = {(p.run.cell, p.run.outer) for p in ready if p.run.stage == "final"}
    ended = {record.run_id for record in records}
    tuned: dict[tuple[CellKey, OuterFold | None], list[PlannedRun]] = {}
    for planned in ready:
        if planned.run.stage == "tune":
            tuned.setdefault((planned.run.cell, planned.run.outer), []).append(planned)
    waiting: list[Run] = []
    for (cell, outer), trials in tuned.items():
        if is_trial(trials[0].run):
            continue  # what follows is proposed
        if (cell, outer) in final or all(trial.run_id in ended for trial in trials):
            continue  # without a final run, every trial failed: nothing will follow
        rates = list(dict.fromkeys(trial.run.learning_rate for trial in trials))
        waiting += [
            trials[0].run.model_copy(
                update={"stage": "final", "seed": seed, "learning_rate": rates[len(rates) // 2]}
            )
            for seed in (protocol.seeds if outer is None else (protocol.seeds[outer.position],))
        ]
    if any(p.run_id not in ended for p in ready) and not any(p.run.rows < 1 for p in ready):
        on_shares = _plan_on_shares(prepared, [*(p.run for p in ready), *waiting])
        # As if the first method were recommended.
        firsts = {p.run.task.key: p.cell for p in reversed(on_shares)}
        waiting += [p.run for p in on_shares if p.cell == firsts[p.run.task.key]]
    return ready, waiting


def find_possible_run_ids(
    prepared: PreparedStudy, records: Sequence[Record] = ()
) -> frozenset[str]:
    """Identities of all runs that the study can have with its present data, models and code.

    Independent of what has ended, but for runs that are proposed by it: final runs at every rate
    that may be chosen, of all shares, in every precision that ``auto`` may mean.
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
    """Leave out the study's runs of other data, models or code than now; return their number."""
    # What proposes runs reads the answers of its trials.
    proposes = any(method.proposer is not None for method in prepared.study.methods)
    records = store.load_records(prepared.study.study_hash, predictions=proposes)
    possible = find_possible_run_ids(prepared, records)
    return store.leave_out(prepared.study.study_hash, possible)


def _plan_runs(
    prepared: PreparedStudy, ended: Mapping[str, Record], *, rates_chosen: bool = True
) -> list[PlannedRun]:
    """The runs of a study given those that have ended; else with every rate that may be chosen."""
    study, shard = prepared.study, prepared.shard
    if prepared.preset is not None:
        pinned = study.model_copy(update={"tasks": prepared.tasks, "models": prepared.models})
        return [
            PlannedRun(prepared.caches.identify(run), run)
            for run in prepared.preset.expand(pinned)
            if shard is None or shard.has(run.cell)
        ]
    planned: list[PlannedRun] = []
    proposed = _list_proposed(prepared, ended)
    for task in prepared.tasks:
        free = [
            PreparedCell(task, NO_MODEL, MethodSpec(name=name))
            for name in model_free_baselines(task, prepared.datasets[task.key].objective)
        ]
        for cell in (*free, *(cell for cell in prepared.cells if cell.task == task)):
            if cell.method.proposer is not None:
                planned += proposed.get(cell.key, ())
            elif shard is None or shard.has(cell.key):
                planned += _plan_cell(prepared, cell, ended if rates_chosen else None)
    if shard is not None:
        planned = [p for p in planned if p.run.stage != "cost"]
    if not rates_chosen:  # whichever method is recommended
        planned += _plan_on_shares(prepared, [p.run for p in planned])
    order = {"tune": 1, "final": 2, "cost": 3}
    # Baselines without a model take a second: they come first.
    planned.sort(key=lambda p: 0 if p.run.model == NO_MODEL else order[p.run.stage])
    return planned


def _list_proposed(
    prepared: PreparedStudy, ended: Mapping[str, Record]
) -> dict[CellKey, Sequence[PlannedRun]]:
    """The runs of each cell of the shard whose method proposes them."""
    shard, cells = prepared.shard, dict[Proposer, list[PreparedCell]]()
    for cell in prepared.cells:
        proposer = cell.method.proposer
        if proposer is not None and (shard is None or shard.has(cell.key, proposed=True)):
            cells.setdefault(proposer, []).append(cell)
    return {
        cell.key: runs
        for proposer, its_cells in cells.items()
        for cell, runs in zip(its_cells, proposer.propose(prepared, its_cells, ended), strict=True)
    }


def _plan_cell(
    prepared: PreparedStudy, cell: PreparedCell, ended: Mapping[str, Record] | None
) -> list[PlannedRun]:
    """The runs of a cell given those that have ended; with None, all that are possible."""
    study, make = prepared.study, partial(prepared.plan_run, cell)
    protocol, raced = study.protocol, study.protocol.race != "off"
    places = list(prepared.designs[cell.task.key].place_seeds(protocol.seeds))
    if cell.model == NO_MODEL:  # one run, in cross-validation one for each fold
        return [make("final", None, seeds[0], outer=outer) for outer, seeds in places]
    configured = methods.configure(cell.method)
    if isinstance(configured, methods.ConfiguredBaseline):
        return []
    default_rates = configured.learning_rates(prepared.topologies[cell.model.key])
    if default_rates is None:
        if not configured.options.shots:
            # No seed, rate or training row changes anything: one answer to each row is enough.
            once = [outer for outer, _ in places if outer is None or outer.repeat == 0]
            places = [(outer, [protocol.seeds[0]]) for outer in once]
        finals = [make("final", None, s, outer=outer) for outer, seeds in places for s in seeds]
        return [*finals, make("cost", None, protocol.seeds[0])]
    rates = choose_learning_rates(cell.method, default_rates, protocol.trials)
    rows = len(prepared.datasets[cell.task.key].train)
    trials: list[PlannedRun] = []
    finals = []
    for outer, seeds in places:
        # Every rate on the parts of train that take a turn as selection part.
        tuning = [
            make("tune", rate, protocol.tuning_seed, fold=fold, outer=outer)
            for rate in (rates if len(rates) > 1 else ())
            for fold in range(count_folds(study, rows) if outer is None else 1)
        ]
        chosen: Sequence[float] = rates
        if tuning and ended is not None:
            tuning = _race_rates(tuning, ended) if raced else tuning
            results = [ended[trial.run_id] for trial in tuning if trial.run_id in ended]
            best = None  # while trials run, or where all failed
            if len(results) == len(tuning):
                best = select_learning_rate(results, raced=raced).rate
            chosen = () if best is None else (best,)
        trials += tuning
        finals += [make("final", rate, s, outer=outer) for rate in chosen for s in seeds]
    return [*trials, *finals, make("cost", rates[len(rates) // 2], protocol.seeds[0])]


def _plan_fewer_rows(
    prepared: PreparedStudy, planned: Sequence[PlannedRun], records: Sequence[Record]
) -> list[PlannedRun]:
    """The final runs of each task's recommended method on shares of train (``protocol.rows``).

    They follow once all other runs have ended, or a race has spared them.
    """
    study, ended = prepared.study, {record.run_id for record in records}
    if not study.protocol.rows:
        return []
    cells, runs = group_into_cells(study, records), list[Run]()
    spared = {(c.task, c.model, c.method) for c in cells if c.stop is not None}
    left = [p for p in planned if p.run_id not in ended]
    if any(p.run.stage == "cost" or p.cell not in spared for p in left):
        return []
    for task in study.tasks:
        of_task = [cell for cell in cells if cell.task == task.key]
        if (chosen := choose(of_task, race_budget(study.limits)).chosen) is not None:
            runs += [record.run for record in chosen.cell.trained]
    return _plan_on_shares(prepared, runs)


def _plan_on_shares(prepared: PreparedStudy, runs: Iterable[Run]) -> list[PlannedRun]:
    """These runs on each share of train that the study asks for; of what trains."""
    shares = () if prepared.shard is not None else prepared.study.protocol.rows
    trained = [run for run in runs if run.stage == "final" and run.learning_rate is not None]
    on_shares = [run.on_rows(share) for run in trained for share in shares]
    return [PlannedRun(prepared.caches.identify(run), run) for run in on_shares]


def _check_distinct(planned: list[PlannedRun]) -> list[PlannedRun]:
    """Return the runs, each once for all that ask for it, unless two cells differ only in names."""
    first: dict[str, Run] = {}
    for p in planned:
        earlier = first.setdefault(p.run_id, p.run)
        if earlier.cell != p.run.cell:
            raise StudyError(
                f"{' x '.join(earlier.cell)} and {' x '.join(p.run.cell)} are the same run.",
                remedy="They differ in nothing but their names: remove one, or change it.",
            )
    return list({(p.run_id, p.proposed_by): p for p in planned}.values())


def count_folds(study: Study, training_rows: int) -> int:
    """How many parts of train take a turn as selection part."""
    return study.protocol.folds if training_rows < MAX_ROWS_FOR_FOLDS else 1


def choose_learning_rates(spec: MethodSpec, rates: methods.Rates, trials: int) -> tuple[float, ...]:
    """The learning rates that a method tries: ``trials`` of them, the same number for all methods.

    The study's own list, which has as many; otherwise rates at equal ratios from the method's
    lowest to its highest (``rates``).
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


def _race_rates(trials: Sequence[PlannedRun], ended: Mapping[str, Record]) -> list[PlannedRun]:
    """The trials whose folds all rates in play have reached; none after one rate is left."""
    rates = {trial.run.learning_rate for trial in trials}
    raced: list[PlannedRun] = []
    for fold in dict.fromkeys(trial.run.fold for trial in trials):
        raced += [t for t in trials if t.run.fold == fold and t.run.learning_rate in rates]
        if any(trial.run_id not in ended for trial in raced):
            break
        in_play = [ended[t.run_id] for t in raced if t.run.learning_rate in rates]
        rates = set(find_rates_in_play(in_play))
        if len(rates) == 1:
            break
    return [trial for trial in trials if trial in raced]
