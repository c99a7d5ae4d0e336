"""Records of a study, gathered into cells: all runs of one task x model x method together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.cell_records import (
    count_outer_folds,
    final_sort_key,
    group_by_outer,
    is_first_run,
    keep_design,
    keep_one_run_per_fold,
    keep_one_setting,
    keep_same_examples,
)
from paretune.analysis.lr_selection import RateSelection, select_learning_rate
from paretune.analysis.primary_metric import find_primary_metric
from paretune.analysis.test_design import TestDesign
from paretune.methods import baselines
from paretune.store.record import Record, RunStatus
from paretune.study import MethodSpec, OuterFold, Run, Study, TaskSpec
from paretune.study.presets import load_preset
from paretune.tasks import objective_of


def model_free_baselines(task: TaskSpec) -> tuple[str, ...]:
    """The names of a task's baselines without a model."""
    objective = objective_of(task)
    return objective.baselines + (objective.tabular_baselines if task.features else ())


def methods_with_probe(study: Study, task: TaskSpec) -> list[MethodSpec]:
    """The study's methods that use a model, and the probe that is always run on each model.

    Planning knows the models, and which further baselines stand beside them
    (:class:`paretune.planning.prepare.PreparedStudy`).
    """
    probe = objective_of(task).probe
    with_model = baselines.WITH_MODEL
    specs = [m for m in study.all_methods if m.name in with_model or m.name not in baselines.NAMES]
    if not any(m.name == probe for m in specs):
        specs.append(MethodSpec(name=probe))
    return specs


def group_into_cells(
    study: Study, records: Iterable[Record], states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """Every cell of the study, in its order, whether or not anything has run.

    Baselines come after the methods of their task. Runs of tasks, models or methods that are not in
    the study are left out: a changed study file never mixes results. In a race each cell has why it
    is trained no further (:func:`paretune.analysis.racing.rounds.mark_stopped`).
    """
    cells = build_cells(study, records, states)
    if study.protocol.race == "off":
        return cells
    from paretune.analysis.racing.rounds import mark_stopped

    return mark_stopped(study, cells)


def build_cells(
    study: Study, records: Iterable[Record], states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """As :func:`group_into_cells`, without what a race has decided."""
    records, states = list(records), list(states)
    keys = _cell_keys(study, [*(r.run for r in records), *(s.run for s in states)])
    by_cell: dict[tuple[str, str, str], list[Record]] = {}
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_cell.setdefault(record.run.cell, []).append(record)
        by_task.setdefault(record.run.task.key, []).append(record)
    pending: dict[tuple[str, str, str], Counter[tuple[str, str]]] = {}
    for state in states:
        if not state.ended:
            pending.setdefault(state.run.cell, Counter())[(state.stage, state.state)] += 1
    objectives = {task.key: objective_of(task) for task in study.tasks}
    metrics = {task: objective.default_metric for task, objective in objectives.items()}
    for task, task_records in by_task.items():
        if (metric := find_primary_metric(task_records)) is not None:
            metrics[task] = metric
    folds = {
        task.key: count_outer_folds(study, by_task.get(task.key, ()), states)
        for task in study.tasks
    }
    return [
        _build_cell(
            study,
            Cell(
                *key,
                name=name,
                metric=metrics[key[0]],
                objective=objectives[key[0]],
                pending=dict(pending.get(key, {})),
            ),
            by_cell.get(key, ()),
            folds[key[0]],
        )
        for key, name in keys.items()
    ]


def _cell_keys(study: Study, runs: Iterable[Run]) -> dict[tuple[str, str, str], str]:
    """Cell keys in the study's order, each with the method's own name.

    ``runs``: those that were planned. They say which baselines stand beside the methods on each
    model, which only planning knows.
    """
    planned: dict[tuple[str, str], dict[str, MethodSpec]] = {}
    for run in runs:
        if run.method.name in baselines.WITH_MODEL:
            planned.setdefault(run.cell[:2], {})[run.method.key] = run.method
    keys: dict[tuple[str, str, str], str] = {}
    for task in study.tasks:
        methods = methods_with_probe(study, task)
        probes = [m for m in methods if m.name in baselines.WITH_MODEL]
        for model in study.models:
            # The probes last, among the baselines, wherever the study names them.
            on_model = _baselines_on_model(probes, planned.get((task.key, model.key), {}))
            for method in (*(m for m in methods if m not in probes), *on_model):
                keys[(task.key, model.key, method.key)] = method.name
        for name in model_free_baselines(task):
            keys[(task.key, NO_MODEL, name)] = name
    return keys


def _baselines_on_model(
    probes: Sequence[MethodSpec], planned: Mapping[str, MethodSpec]
) -> list[MethodSpec]:
    """The baselines on a model: those of the study that it can have, and those always run."""
    if not planned:  # yet
        return list(probes)
    names = {probe.name for probe in probes}
    always = [own for own in planned.values() if own.name not in names and own.key == own.name]
    return [*(probe for probe in probes if probe.key in planned), *always]


def _build_cell(study: Study, empty: Cell, records: Sequence[Record], folds: int) -> Cell:
    """``empty`` with its records and what follows from them."""
    of_stage: dict[str, list[Record]] = {"tune": [], "final": [], "cost": []}
    for record in records:
        of_stage[record.run.stage].append(record)
    raced = study.protocol.race != "off"
    tuning = keep_one_setting(keep_design(of_stage["tune"], folds), study, None)
    choice, fold_choices = select_learning_rate(tuning, raced=raced and not folds), {}
    candidates = keep_design(of_stage["final"], folds)
    if folds:
        fold_choices = {
            outer: select_learning_rate(trials) for outer, trials in group_by_outer(tuning).items()
        }
        final = keep_one_run_per_fold(candidates, study, fold_choices)
    else:
        final = keep_same_examples(keep_one_setting(candidates, study, choice.rate))
    cost = keep_one_setting(of_stage["cost"], study, None)
    cell = replace(
        empty,
        design=TestDesign(folds),
        final=tuple(sorted(final, key=final_sort_key)),
        tuning=tuple(tuning),
        cost=tuple(cost),
        choice=choice,
        fold_choices=fold_choices,
        expected_runs=_count_expected_runs(study, empty, folds, fold_choices),
        failed_folds=sum(
            len(choice.table) == study.protocol.trials and choice.rate is None
            for choice in fold_choices.values()
        ),
        other_settings=len(of_stage["final"]) - len(final),
        raced=raced,
        first_runs=_find_first_runs(final, study) if raced else (),
    )
    return replace(cell, design=TestDesign(folds, len(cell.test_answers) or 1)) if folds else cell


def _find_first_runs(final: Iterable[Record], study: Study) -> tuple[Record, ...]:
    first = [r for r in final if is_first_run(r, study.protocol.seeds)]
    return tuple(sorted(first, key=final_sort_key))


def _count_expected_runs(
    study: Study, cell: Cell, folds: int, fold_choices: Mapping[OuterFold, RateSelection]
) -> int:
    draws_nothing = cell.name in baselines.DRAWS_NOTHING
    if not folds:
        if cell.model == NO_MODEL or draws_nothing:
            return 1  # it does not depend on the seed
        preset = load_preset(study.protocol.preset)
        own = preset.final_runs if preset else None
        return len(study.protocol.seeds) if own is None else own
    if draws_nothing:
        return folds
    # A fold all of whose trials failed has no final run.
    return len(study.protocol.seeds) - sum(choice.rate is None for choice in fold_choices.values())
