"""From a study and the records so far to all runs that should exist.

A pure function, called again whenever runs have ended: trials of learning rates come first; when
all trials of a cell have ended, its rate is chosen and the final seeds appear; its cost comes last.
In outer cross-validation each fold of a cell has its own trials, rate and final run.
In a race (``protocol.race``) the next fold is tried with the rates that are not clearly behind;
which of these runs are trained at all is decided by :mod:`paretune.search.race`.
The same input gives the same runs, so the same command always continues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paretune.analysis.cells import model_free_baselines
from paretune.analysis.lr_selection import find_rates_in_play, select_learning_rate
from paretune.data.outer_design import OuterDesign, choose_outer_design
from paretune.errors import StudyError
from paretune.methods import ConfiguredBaseline
from paretune.objectives.readouts import for_readout
from paretune.planning.auto import AutoSearch, find_warm_start
from paretune.planning.context import NO_MODEL, StudyContext, choose_learning_rates
from paretune.planning.readouts import check_method, find_refused_cells, methods_on_model
from paretune.store.record import Record
from paretune.study import (
    MethodSpec,
    ModelSpec,
    OuterFold,
    Readout,
    Run,
    Stage,
    Study,
    TaskSpec,
)
from paretune.study.forgetting_text import ForgettingText
from paretune.study.presets import load_preset
from paretune.tasks import objective_of

MAX_ROWS_FOR_FOLDS = 500
"""Below this many training rows, rates are chosen by the mean over folds."""


@dataclass(frozen=True)
class PlannedRun:
    """A run with its identity.

    ``searched_by``: model and method of the search whose trial it is; a trial of several searches
    is planned by each.
    """

    run_id: str
    run: Run
    searched_by: tuple[str, str] | None = None

    @property
    def cell(self) -> tuple[str, str, str]:
        """Task, model and method that it is for: of a trial of a search, those of the search."""
        return self.run.cell if self.searched_by is None else (self.run.cell[0], *self.searched_by)


def expand_study(
    study: Study, context: StudyContext, records: Sequence[Record]
) -> list[PlannedRun]:
    """All runs of the study, given the records that exist, in the order to run them.

    With ``protocol.cost_seconds: 0`` no costs are among them.

    Raises:
        StudyError: two cells of the study would be the same runs under two names.
        ParetuneError: data, a model or a method that cannot be used.
    """
    planned = _check_distinct(_plan_runs(study, context, records))
    if study.protocol.cost_seconds:
        return planned
    return [one for one in planned if one.run.stage != "cost"]


def find_possible_run_ids(
    study: Study, context: StudyContext, records: Sequence[Record] = ()
) -> frozenset[str]:
    """Identities of all runs that the study can have with its present data, models and code.

    Final runs at every rate that may be chosen, and all runs in every precision that ``auto`` may
    mean; ``records`` are those that searches go on from.
    """
    return frozenset(
        planned.run_id
        for auto_precision in (lambda _: "fp32", lambda _: "bf16")
        for planned in _plan_runs(
            study, replace(context, auto_precision=auto_precision), records, rates_chosen=False
        )
    )


def _plan_runs(
    study: Study, context: StudyContext, records: Sequence[Record], *, rates_chosen: bool = True
) -> list[PlannedRun]:
    """The runs of a study given those that have ended; else with every rate that may be chosen."""
    study = context.pin_revisions(study)
    for task in study.tasks:
        for method in study.all_methods:
            check_method(method, task, study.models, context)
    refused = find_refused_cells(study, context)
    preset = load_preset(study.protocol.preset)
    if preset is not None:
        if refused:
            raise refused[0]
        runs = [run for run in preset.expand(study) if _is_in_shard(context, run.cell)]
        return [PlannedRun(context.identify(run), run) for run in runs]
    known = {record.run_id: record for record in records}
    ended = known if rates_chosen else None
    planned: list[PlannedRun] = []
    searches: dict[tuple[str, str], list[AutoSearch]] = {}
    for task in study.tasks:
        design = choose_outer_design(study.protocol, task, context.dataset(task))
        for name in model_free_baselines(task):
            if _is_in_shard(context, (task.key, NO_MODEL.key, name)):
                planned += _plan_baseline(study, context, task, name, design)
        for model in study.models:
            for method, readout in methods_on_model(study, task, model, context):
                key, searched = (task.key, model.key, method.key), bool(method.found_by_search)
                if not _is_in_shard(context, key, searched=searched):
                    continue
                cell = _CellPlanner(study, context, task, model, method, readout)
                if searched:
                    planned += _plan_search(cell, design, known, searches)
                else:
                    planned += cell.plan(design, ended)
    if context.shard is not None:
        planned = [one for one in planned if one.run.stage != "cost"]
    order = {"tune": 1, "final": 2, "cost": 3}
    # Baselines without a model take a second: they come first.
    planned.sort(key=lambda p: 0 if p.run.model == NO_MODEL else order[p.run.stage])
    return planned


def _is_in_shard(
    context: StudyContext, cell: tuple[str, str, str], *, searched: bool = False
) -> bool:
    return context.shard is None or context.shard.has(cell, searched=searched)


def _plan_search(
    cell: _CellPlanner,
    design: OuterDesign,
    known: Mapping[str, Record],
    searches: dict[tuple[str, str], list[AutoSearch]],
) -> list[PlannedRun]:
    """The trials of a search, and the final runs of what it has found.

    ``searches``: those of earlier tasks, by model and method; this one is added. It begins when
    these have ended. In cross-validation each outer fold has its own, and begins anew, since its
    rows may have been in the other task's trials.
    """
    protocol, key = cell.study.protocol, (cell.model.key, cell.method.key)
    warm = find_warm_start(searches.get(key, ()))
    if warm is None:
        return []
    rows = len(cell.context.dataset(cell.task).train)
    trials, finals = [], []
    for outer, seeds in design.place_seeds(protocol.seeds):
        search = AutoSearch(
            context=cell.context,
            task=cell.task,
            model=cell.model,
            method=cell.method,
            make=cell.make_run,
            ended=known,
            tuning_seed=protocol.tuning_seed,
            seeds=protocol.seeds,
            runs=protocol.trials * (count_folds(cell.study, rows) if outer is None else 1),
            outer=outer,
            warm=warm,
            limits=cell.study.limits,
            of_study=cell.study.methods,
        )
        if cell.context.shard is not None and search.waits_for_reference:
            raise StudyError(
                "begins with a measured cost under these limits, and a share of a study has none.",
                where=f"method {cell.method.key}",
                remedy="Run the study whole: leave out --shard.",
            )
        if outer is None:
            searches.setdefault(key, []).append(search)
        for run_id, run in search.plan_trials():
            trials.append(PlannedRun(run_id, run, key if run.stage == "tune" else None))
        if (choice := search.choose()) is not None:
            spec, rate = choice
            finals += [cell.make("final", rate, s, outer=outer, method=spec) for s in seeds]
            if outer is None or outer.position == 0:  # one cost for all folds
                finals.append(cell.make("cost", rate, protocol.seeds[0], method=spec))
    return [*trials, *finals]


def _plan_baseline(
    study: Study, context: StudyContext, task: TaskSpec, name: str, design: OuterDesign
) -> list[PlannedRun]:
    """A run of a baseline without a model, in cross-validation one for each fold."""
    cell = _CellPlanner(study, context, task, NO_MODEL, MethodSpec(name=name))
    places = design.place_seeds(study.protocol.seeds)
    return [cell.make("final", None, seeds[0], outer=place) for place, seeds in places]


def _check_distinct(planned: list[PlannedRun]) -> list[PlannedRun]:
    """Return the runs, each once for all that ask for it, unless two cells differ only in names."""
    first: dict[str, Run] = {}
    for one in planned:
        other = first.setdefault(one.run_id, one.run)
        if other.cell != one.run.cell:
            raise StudyError(
                f"{' x '.join(other.cell)} and {' x '.join(one.run.cell)} are the same run.",
                remedy="They differ in nothing but their names: remove one, or change it.",
            )
    return list({(one.run_id, one.searched_by): one for one in planned}.values())


def count_folds(study: Study, training_rows: int) -> int:
    """How many parts of train take a turn as selection part."""
    return study.protocol.folds if training_rows < MAX_ROWS_FOR_FOLDS else 1


@dataclass(frozen=True)
class _CellPlanner:
    """Plans the runs of one task x model x method."""

    study: Study
    context: StudyContext
    task: TaskSpec
    model: ModelSpec
    method: MethodSpec
    readout: Readout = "head"

    def make_run(
        self,
        stage: Stage,
        rate: float | None,
        seed: int,
        *,
        fold: int = 0,
        outer: OuterFold | None = None,
        method: MethodSpec | None = None,
    ) -> Run:
        """A run of the cell; ``method``: in place of the cell's own."""
        training = self.study.training
        precision = self.context.resolve_precision(training, self.model)
        return Run(
            stage=stage,
            task=self.task,
            model=self.model,
            method=self.method if method is None else method,
            learning_rate=rate,
            readout=self.readout,
            seed=seed,
            fold=fold,
            split_seed=self.study.protocol.split_seed,
            outer=outer,
            training=training.model_copy(update={"precision": precision}),
            generation=self.study.generation if self._generates else None,
            forgetting=self._forgetting(stage, rate),
        )

    def make(self, stage: Stage, rate: float | None, seed: int, **others: Any) -> PlannedRun:
        """The same with its identity."""
        run = self.make_run(stage, rate, seed, **others)
        return PlannedRun(self.context.identify(run), run)

    def _forgetting(self, stage: Stage, rate: float | None) -> ForgettingText | None:
        """What final runs that train are asked to measure."""
        text = self.study.forgetting
        if text is None or stage != "final" or rate is None:
            return None
        return self.context.forgetting_text(text, self.task, self.model)

    @property
    def _raced(self) -> bool:
        return self.study.protocol.race != "off"

    @property
    def _generates(self) -> bool:
        if self.readout == "head":
            return objective_of(self.task).generates
        dataset = self.context.dataset(self.task)
        return for_readout(dataset.objective, self.readout, dataset.prompt).generates

    def plan(self, design: OuterDesign, ended: Mapping[str, Record] | None) -> list[PlannedRun]:
        """Its runs given those that have ended; with None, all that are possible."""
        configured = self.context.method(self.method)
        if isinstance(configured, ConfiguredBaseline):
            return []
        protocol = self.study.protocol
        default_rates = configured.learning_rates(self.context.topology(self.model))
        if default_rates is None:
            places = list(design.place_seeds(protocol.seeds))
            if not configured.shots:
                # No seed, rate or training row changes anything: one answer to each row is enough.
                once = [outer for outer, _ in places if outer is None or outer.repeat == 0]
                places = [(outer, [protocol.seeds[0]]) for outer in once]
            finals = [
                self.make("final", None, s, outer=outer) for outer, own in places for s in own
            ]
            return [*finals, self.make("cost", None, protocol.seeds[0])]
        rates = choose_learning_rates(self.method, default_rates, protocol.trials)
        trials: list[PlannedRun] = []
        finals = []
        for outer, seeds in design.place_seeds(protocol.seeds):
            own = self._plan_trials(rates, outer) if len(rates) > 1 else []
            if self._raced and ended is not None:
                own = _race_rates(own, ended)
            trials += own
            chosen = _choose_rates(rates, own, ended, raced=self._raced)
            finals += [self.make("final", r, s, outer=outer) for r in chosen for s in seeds]
        cost = self.make("cost", rates[len(rates) // 2], protocol.seeds[0])
        return [*trials, *finals, cost]

    def _plan_trials(self, rates: Sequence[float], outer: OuterFold | None) -> list[PlannedRun]:
        """Every rate on the parts of train that take a turn as selection part."""
        rows = len(self.context.dataset(self.task).train)
        folds = range(count_folds(self.study, rows) if outer is None else 1)
        seed = self.study.protocol.tuning_seed
        return [self.make("tune", r, seed, fold=fold, outer=outer) for r in rates for fold in folds]


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


def _choose_rates(
    rates: Sequence[float],
    trials: Sequence[PlannedRun],
    ended: Mapping[str, Record] | None,
    *,
    raced: bool = False,
) -> Sequence[float]:
    """Rates of the final runs: one; none while trials run, or where all failed; else all."""
    if not trials or ended is None:
        return rates
    results = [ended[trial.run_id] for trial in trials if trial.run_id in ended]
    if len(results) < len(trials):
        return ()
    rate = select_learning_rate(results, raced=raced).rate
    return () if rate is None else (rate,)
