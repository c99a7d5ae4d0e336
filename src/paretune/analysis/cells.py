"""Groups the records of a study into cells: all runs of one task x model x method together.

Only records of one setting and one design of the test count together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paretune.analysis.cell import (
    NO_MODEL,
    Cell,
    Subject,
    group_by_outer,
    has_test_answers,
    position_of,
)
from paretune.analysis.learning_rates import (
    RateSelection,
    find_primary_metric,
    judge_rates,
    select_learning_rate,
)
from paretune.analysis.passes import count_pass_runs, count_passes, mark_passes
from paretune.measuring.costs import predict_peaks
from paretune.methods import baselines
from paretune.objectives import Objective
from paretune.store.record import Record, RunStatus
from paretune.study import UNNAMED_MODEL, MethodSpec, OuterFold, Run, Study, TaskSpec
from paretune.study.presets import load_preset
from paretune.tasks import objective_of


def model_free_baselines(task: TaskSpec, objective: Objective) -> tuple[str, ...]:
    """Return the names of a task's baselines without a model."""
    return tuple(n for n in objective.baselines if task.features or n not in baselines.OF_TABLES)


def methods_with_probe(study: Study, objective: Objective) -> list[MethodSpec]:
    """Return the study's methods that use a model, and the probe of a task for each model.

    A study of commands without a model has no probe.

    Planning knows the models, and which further baselines stand beside them
    (:class:`paretune.planning.prepare.PreparedStudy`).
    """
    with_model = baselines.WITH_MODEL
    specs = [m for m in study.all_methods if m.name in with_model or m.name not in baselines.NAMES]
    has_models = UNNAMED_MODEL not in study.models
    if has_models and not any(m.name == objective.probe for m in specs):
        specs.append(MethodSpec(name=objective.probe))
    return specs


def group_into_cells(
    study: Study, records: Iterable[Record], states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """Return every cell of the study, in its order, whether or not anything has run.

    Baselines come after the methods of their task. Runs of tasks, models or methods that the study
    does not have are left out: a changed study file never mixes results. With ``preset: passes``
    each cell has the number of runs that :func:`paretune.analysis.passes.mark_passes` gives to it.
    """
    cells = build_cells(study, records, states)
    if study.is_judged:
        return mark_judged(cells)
    return mark_passes(study, cells) if study.protocol.preset == "passes" else cells


def mark_judged(cells: Sequence[Cell]) -> list[Cell]:
    """Complete cells of runs that were trained elsewhere: no others follow, and these have costs.

    Where no method has a second run, scores describe these very models.
    """
    subject: Subject = "methods" if any(len(cell.final) > 1 for cell in cells) else "models"
    return [
        replace(
            cell,
            judged=subject,
            expected_runs=len(cell.final),
            cost=tuple(record for record in cell.final if record.measured),
        )
        for cell in cells
    ]


def build_cells(
    study: Study, records: Iterable[Record], states: Iterable[RunStatus] = ()
) -> list[Cell]:
    """Build the cells of :func:`group_into_cells`, before passes are decided."""
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
        task.key: _count_outer_folds(study, by_task.get(task.key, ()), states)
        for task in study.tasks
    }
    cells = [
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
    peaks = predict_peaks(cells)
    return [replace(cell, predicted_bytes=peaks.get((cell.task, *cell.key))) for cell in cells]


def _cell_keys(study: Study, runs: Iterable[Run]) -> dict[tuple[str, str, str], str]:
    """Return the cell keys in the study's order, each with the name of its method.

    ``runs`` are the planned runs. They say which baselines stand beside the methods on each model,
    which only planning knows.
    """
    if study.is_judged:  # the cells that were given: methods, then baselines in the same order
        named = {run.cell: run.method.name for run in runs}
        groups = (baselines.NAMES, baselines.NAMES - baselines.WITH_MODEL)
        order = {cell: sum(name in group for group in groups) for cell, name in named.items()}
        return {cell: named[cell] for cell in sorted(named, key=order.__getitem__)}
    planned: dict[tuple[str, str], dict[str, MethodSpec]] = {}
    for run in runs:
        if run.method.name in baselines.WITH_MODEL:
            planned.setdefault(run.cell[:2], {})[run.method.key] = run.method
    keys: dict[tuple[str, str, str], str] = {}
    for task in study.tasks:
        objective = objective_of(task)
        methods = methods_with_probe(study, objective)
        probes = [m for m in methods if m.name in baselines.WITH_MODEL]
        for model in study.models:
            on_model = probes
            if of_cell := planned.get((task.key, model.key)):
                names = {probe.name for probe in probes}
                always = [m for m in of_cell.values() if m.name not in names and m.key == m.name]
                on_model = [*(probe for probe in probes if probe.key in of_cell), *always]
            # Probes come last, among the baselines, wherever the study names them.
            for method in (*(m for m in methods if m not in probes), *on_model):
                keys[(task.key, model.key, method.key)] = method.name
        for name in model_free_baselines(task, objective):
            keys[(task.key, NO_MODEL, name)] = name
    return keys


def _count_outer_folds(study: Study, records: Sequence[Record], states: Sequence[RunStatus]) -> int:
    """Return the folds of a task's cross-validation; 0 for the published split.

    It is the number that the study wants, if there are such runs; otherwise that of most runs.
    """
    runs = [record.run for record in records] or [state.run for state in states]
    counts = Counter(run.outer.folds if run.outer else 0 for run in runs if run.stage != "cost")
    if not counts:
        return 0
    outer = study.protocol.outer
    folds = outer if isinstance(outer, int) else 0
    return folds if outer != "auto" and folds in counts else counts.most_common(1)[0][0]


def _build_cell(study: Study, empty: Cell, records: Sequence[Record], folds: int) -> Cell:
    """Fill ``empty`` with its records and derived values."""
    of_stage: dict[str, list[Record]] = {"tune": [], "final": [], "cost": []}
    whole = [record for record in records if record.run.rows == 1]
    for record in whole:
        outer = record.run.outer
        if record.run.stage == "cost" or (outer.folds if outer else 0) == folds:
            of_stage[record.run.stage].append(record)
    protocol = study.protocol
    tuning = _keep_one_setting(of_stage["tune"], study)
    fold_choices: dict[OuterFold, RateSelection] = {}
    if protocol.preset == "passes" and not tuning:
        size = count_pass_runs(folds, protocol.seeds)
        begun, further = (
            [r for r in of_stage["final"] if (r.run.begun_at is not None) == moved]
            for moved in (False, True)
        )
        first = [
            record
            for record in _keep_one_setting(begun, study)
            if (at := position_of(record.run, protocol.seeds)) is not None and at < size
        ]
        choice = judge_rates(first, further)
        rates = {trial.rate for trial in choice.table} - {choice.rate}
        tuning = [r for r in (*begun, *further) if r.run.learning_rate in rates]
    else:
        choice = select_learning_rate(tuning)
    if folds and tuning and tuning[0].run.stage == "tune":
        fold_choices = {
            outer: select_learning_rate(trials) for outer, trials in group_by_outer(tuning).items()
        }
    if folds:
        final = _keep_one_run_per_fold(of_stage["final"], study, fold_choices, choice.rate)
    else:
        final = _keep_one_setting(of_stage["final"], study, choice.rate)
        # Only answers to the same examples are averaged.
        answers = {r.run_id: r.predictions["test"].uid for r in final if has_test_answers(r)}
        for uids, _ in Counter(answers.values()).most_common(1):
            final = [r for r in final if answers.get(r.run_id, uids) == uids]
    # Sort by repeat and fold, then by seed.
    final.sort(key=lambda r: (0 if r.run.outer is None else r.run.outer.position, r.run.seed))
    forms = [record.run.on_rows(1).canonical_form() for record in final]
    fewer = [r for r in records if r.run.rows < 1 and r.run.on_rows(1).canonical_form() in forms]
    return replace(
        empty,
        folds=folds,
        final=tuple(final),
        tuning=tuple(tuning),
        cost=tuple(_keep_one_setting(of_stage["cost"], study)),
        choice=choice,
        fold_choices=fold_choices,
        expected_runs=_count_expected_runs(study, empty, folds, fold_choices),
        failed_folds=frozenset(
            outer
            for outer, choice in fold_choices.items()
            if len(choice.table) == protocol.trials and choice.rate is None
        ),
        other_settings=sum(record.run.stage == "final" for record in whole if record not in tuning)
        - len(final),
        passes=count_passes(protocol, folds),
        judged_at_end=protocol.until == "complete" or protocol.race != "off",
        fewer_rows=tuple(fewer),
    )


def _count_expected_runs(
    study: Study, cell: Cell, folds: int, fold_choices: Mapping[OuterFold, RateSelection]
) -> int:
    seeds = len(study.protocol.seeds)
    if cell.name in baselines.DRAWS_NOTHING:
        return max(folds, 1)
    if folds:  # a fold all of whose trials failed has no final run
        return seeds - sum(choice.rate is None for choice in fold_choices.values())
    if cell.model == NO_MODEL:  # its answers do not depend on the seed
        return 1
    preset = load_preset(study.protocol.preset)
    return seeds if preset is None or preset.final_runs is None else preset.final_runs


def _keep_one_run_per_fold(
    records: Sequence[Record],
    study: Study,
    choices: Mapping[OuterFold, RateSelection],
    rate_of_all: float | None,
) -> list[Record]:
    """Select for each fold the run of one setting at its selected rate with the study's seed.

    Args:
        choices: selection of each fold that has trials.
        rate_of_all: rate of the other folds.
    """
    seeds = study.protocol.seeds
    selected = []
    for outer, runs in group_by_outer(_keep_one_setting(records, study)).items():
        rate = choices[outer].rate if outer in choices else rate_of_all
        seed = seeds[outer.position] if outer.position < len(seeds) else None
        fitting = [r for r in runs if rate is None or r.run.learning_rate == rate] or runs
        selected.append(max(fitting, key=lambda record: record.run.seed == seed))
    return selected


def _keep_one_setting(
    records: Sequence[Record], study: Study, rate: float | None = None
) -> list[Record]:
    """Select records of one setting: the study's, at the selected rate, or the most frequent."""
    settings: dict[str, list[Record]] = {}
    for record in records:
        # These values must be equal for two runs to be seeds (or trials) of one another.
        run = record.run
        ignored: dict[str, Any] = {"seed": 0, "fold": 0, "begun_at": 0}
        if run.outer is not None:
            ignored["outer"] = run.outer.folds
        if run.stage != "final" or run.outer is not None:  # each fold has a separate rate
            ignored["learning_rate"] = 0
        form = run.canonical_form()
        proposer = run.method.proposer
        if proposer is not None and run.outer is not None:  # each fold has separate trials
            options = form["method"]["options"].items()
            proposed = {key: value for key, value in options if key != proposer.completes}
            form["method"] = {**form["method"], "options": proposed}
        setting = repr(sorted({**form, **ignored}.items()))
        settings.setdefault(setting, []).append(record)
    return max(settings.values(), key=lambda group: _closeness(group, study, rate), default=[])


def _closeness(records: Sequence[Record], study: Study, rate: float | None) -> tuple[Any, ...]:
    run: Run = records[0].run
    training = run.training.model_copy(update={"precision": study.training.precision})
    in_study = False
    for spec in study.all_methods:
        if spec.key == run.method.key:  # the study's method, or one that its trials have completed
            options, options_of_run = spec.options_of_runs, run.method.options_of_runs
            if spec.proposer is not None and spec.proposer.completes not in options:
                options_of_run.pop(spec.proposer.completes, None)
            in_study |= options == options_of_run
    return (
        in_study,
        training == study.training,
        run.split_seed == study.protocol.split_seed,
        rate is None or run.learning_rate == rate,
        len(records),
    )
