"""From a study and the records so far to all runs that should exist.

A pure function, called again whenever runs have ended: trials of learning rates come first; when
all trials of a cell have ended, its rate is chosen and the final seeds appear; its cost comes last.
The same input gives the same runs, so the same command always continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paretune.analysis.cells import methods_with_probe, model_free_baselines
from paretune.analysis.lr_selection import select_learning_rate
from paretune.errors import StudyError
from paretune.methods import ConfiguredBaseline
from paretune.planning.context import NO_MODEL, StudyContext, choose_learning_rates
from paretune.planning.presets import load_preset
from paretune.store.record import Record
from paretune.study import MethodSpec, ModelSpec, Run, Stage, Study, TaskSpec, Training
from paretune.tasks import objective_of

MAX_ROWS_FOR_FOLDS = 500
"""Below this many training rows, rates are chosen by the mean over folds."""


@dataclass(frozen=True)
class PlannedRun:
    """A run with its identity."""

    run_id: str
    run: Run


def expand_study(
    study: Study, context: StudyContext, records: Sequence[Record]
) -> list[PlannedRun]:
    """All runs of the study, given the records that exist, in the order to run them.

    Raises:
        StudyError: two cells of the study would be the same runs under two names.
        ParetuneError: data, a model or a method that cannot be used.
    """
    return _check_distinct(
        _plan_runs(study, context, {record.run_id: record for record in records})
    )


def find_possible_run_ids(study: Study, context: StudyContext) -> frozenset[str]:
    """Identities of all runs that the study can have with its present data, models and code.

    Independent of what has ended: final runs at every rate that may be chosen, and all runs in
    every precision that ``auto`` may mean.
    """
    return frozenset(
        planned.run_id
        for auto_precision in (lambda _: "fp32", lambda _: "bf16")
        for planned in _plan_runs(study, replace(context, auto_precision=auto_precision), None)
    )


def _plan_runs(
    study: Study, context: StudyContext, ended: dict[str, Record] | None
) -> list[PlannedRun]:
    """The runs of a study given those that have ended; with None, all that are possible."""
    study = context.pin_revisions(study)
    for task in study.tasks:
        for method in study.methods:
            context.check_method_serves(method, task)
    preset = load_preset(study.protocol.preset)
    if preset is not None:
        return [PlannedRun(context.identify(run), run) for run in preset.expand(study)]
    planned: list[PlannedRun] = []
    for task in study.tasks:
        for name in model_free_baselines(task):
            run = Run(
                stage="final",
                task=task,
                model=NO_MODEL,
                method=MethodSpec(name=name),
                learning_rate=None,
                seed=study.protocol.seeds[0],
                split_seed=study.protocol.split_seed,
                training=_with_precision(study.training, NO_MODEL, context),
                generation=study.generation if objective_of(task).generates else None,
            )
            planned.append(PlannedRun(context.identify(run), run))
        for model in study.models:
            for method in methods_with_probe(study, task):
                planned += _plan_cell(study, context, ended, task, model, method)
    order = {"tune": 1, "final": 2, "cost": 3}
    # Baselines without a model take a second: they come first.
    planned.sort(key=lambda p: 0 if p.run.model == NO_MODEL else order[p.run.stage])
    return planned


def _check_distinct(planned: list[PlannedRun]) -> list[PlannedRun]:
    """Return the runs unless two cells differ in nothing but their names."""
    first: dict[str, Run] = {}
    for one in planned:
        other = first.setdefault(one.run_id, one.run)
        if other.cell != one.run.cell:
            raise StudyError(
                f"{' x '.join(other.cell)} and {' x '.join(one.run.cell)} are the same run.",
                remedy="They differ in nothing but their names: remove one, or change it.",
            )
    return planned


def count_folds(study: Study, training_rows: int) -> int:
    """How many parts of train take a turn as selection part."""
    return study.protocol.folds if training_rows < MAX_ROWS_FOR_FOLDS else 1


def _plan_cell(
    study: Study,
    context: StudyContext,
    ended: dict[str, Record] | None,
    task: TaskSpec,
    model: ModelSpec,
    method: MethodSpec,
) -> list[PlannedRun]:
    configured = context.method(method)
    if isinstance(configured, ConfiguredBaseline):
        return []
    protocol = study.protocol
    training = _with_precision(study.training, model, context)

    def planned(stage: Stage, rate: float | None, seed: int, fold: int = 0) -> PlannedRun:
        run = Run(
            stage=stage,
            task=task,
            model=model,
            method=method,
            learning_rate=rate,
            seed=seed,
            fold=fold,
            split_seed=protocol.split_seed,
            training=training,
            generation=study.generation if objective_of(task).generates else None,
        )
        return PlannedRun(context.identify(run), run)

    if configured.learning_rates is None:
        # No seed and no rate changes anything: one run is enough.
        return [planned(stage, None, protocol.seeds[0]) for stage in ("final", "cost")]
    rates = choose_learning_rates(method, configured.learning_rates, protocol.trials)
    cost = planned("cost", rates[len(rates) // 2], protocol.seeds[0])
    if len(rates) == 1:
        return [*(planned("final", rates[0], seed) for seed in protocol.seeds), cost]
    folds = range(count_folds(study, len(context.dataset(task).train)))
    trials = [planned("tune", rate, protocol.tuning_seed, f) for rate in rates for f in folds]
    if ended is None:
        finals = [planned("final", rate, seed) for rate in rates for seed in protocol.seeds]
        return [*trials, *finals, cost]
    results = [ended[t.run_id] for t in trials if t.run_id in ended]
    if len(results) < len(trials):
        return [*trials, cost]
    choice = select_learning_rate(results)
    if choice.rate is None:
        return [*trials, cost]  # every trial diverged or did not fit: the cell ends here
    return [*trials, *(planned("final", choice.rate, seed) for seed in protocol.seeds), cost]


def _with_precision(training: Training, model: ModelSpec, context: StudyContext) -> Training:
    return training.model_copy(update={"precision": context.resolve_precision(training, model)})
