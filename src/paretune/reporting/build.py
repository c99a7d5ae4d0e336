"""Build the report of a study: the one place where its statistics are computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from paretune import metrics
from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.learning_rates import find_primary_metric
from paretune.analysis.over_tasks import compare_over_tasks
from paretune.analysis.pareto.recommend import Recommendation, recommend
from paretune.analysis.racing.rounds import foresee_choice, race_budget
from paretune.analysis.statistics.intervals import Interval
from paretune.reporting.build_rows import build_rows
from paretune.reporting.model import Finding, Report, TaskReport
from paretune.reporting.rows import Grid, ModelPairs, Row
from paretune.reporting.tables.disagreement import find_disagreements
from paretune.reporting.tables.forgetting_table import build_forgetting_grid
from paretune.reporting.tables.likelihood_table import build_likelihood
from paretune.reporting.tables.memory_table import build_memory_grid
from paretune.reporting.tables.model_sizes import build_model_sizes
from paretune.reporting.tables.over_tasks_table import write_over_tasks
from paretune.reporting.tables.pareto_table import build_pareto_table
from paretune.reporting.tables.prediction_error import build_prediction_grids
from paretune.reporting.tables.report_table import build_report_tables
from paretune.reporting.tables.search_table import build_front_grid, build_search_grid
from paretune.reporting.tables.segment_differences import PAGE_BYTES, find_segment_differences
from paretune.reporting.tables.shifted_table import build_shifted_grid
from paretune.reporting.tables.translation_table import build_translation_table
from paretune.reporting.text.conclusions import (
    SELECTED_ON_TEST,
    describe_designs,
    describe_protocol,
    describe_unfinished,
    write_conclusions,
    write_further_conclusions,
    write_race,
)
from paretune.reporting.text.formatting import (
    format_examples,
    format_runs,
    join_names,
)
from paretune.reporting.text.recommendation import write_advice
from paretune.reporting.text.run_metadata import (
    collect_environment,
    collect_failures,
    collect_notes,
    format_settings,
)
from paretune.store.record import Record, RunStatus
from paretune.study import Study, TaskSpec
from paretune.study.presets import load_preset
from paretune.tasks import objective_of
from paretune.terminal.sanitise import sanitise_line

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def build_report(
    study: Study,
    records: Sequence[Record],
    states: Sequence[RunStatus] = (),
    findings: Iterable[Finding] = (),
) -> Report:
    """Compute every statistic of a study and state what follows. Call it once for all outputs.

    Args:
        study: cells are in its order.
        records: ended runs with their predictions.
        states: the state of every run, for what is unfinished.
        findings: of the audit of the study's data.
    """
    cells = group_into_cells(study, records, states)
    tasks = [
        _build_task(
            study,
            task,
            [c for c in cells if c.task == task.key],
            [r for r in records if r.run.task.key == task.key],
        )
        for task in study.tasks
    ]
    preset = load_preset(study.protocol.preset)
    ended_at = max((s.ended_at for s in states if s.ended_at is not None), default=None)
    return Report(
        name=sanitise_line(study.study),
        study_hash=study.study_hash,
        protocol=" ".join([describe_protocol(study, cells), *describe_designs(study, cells)]),
        tasks=tuple(_add_joint_tables(tasks)),
        unfinished=tuple(describe_unfinished(c) for c in cells if not c.finished),
        failures=tuple(collect_failures(cells)),
        departures=preset.departures() if preset else (),
        findings=tuple(findings),
        notes=(
            *_note_unknown_metrics(study, cells),
            *find_interval_caveats(cells),
            *collect_notes(cells),
        ),
        environment=tuple(collect_environment(records)),
        settings=format_settings(study),
        study_settings=study.canonical_form(),
        ended_runs=len(records),
        waiting_runs=sum(not state.ended for state in states),
        date=_format_date(ended_at),
        ended_at=ended_at,
        over_tasks=write_over_tasks(compare_over_tasks(cells)),
    )


def _build_grids(task: TaskSpec, rows: Sequence[Row]) -> tuple[Grid, ...]:
    scores = build_translation_table(task, rows)
    return (*((scores,) if scores else ()), *build_report_tables(task, rows))


def _build_task(
    study: Study, task: TaskSpec, cells: Sequence[Cell], records: Sequence[Record]
) -> TaskReport:
    key, metric = sanitise_line(task.key), metrics.get(cells[0].metric)
    comparisons = PairwiseComparisons(cells)
    rows = build_rows(cells, comparisons)
    methods = tuple(row for row in rows if not row.cell.baseline)
    baselines = tuple(row for row in rows if row.cell.baseline)
    all_rows = (*methods, *baselines)
    basis = _describe_basis([row for row in rows if not row.cell.deterministic])
    if any(cell.selected_on_test for cell in cells):
        basis.append(SELECTED_ON_TEST)
    recommendation = recommend(cells, race_budget(study.limits), comparisons)
    advice = write_advice(recommendation, race=describe_race(study, cells, recommendation))
    sentences = tuple(write_conclusions(key, methods, baselines, comparisons))
    further = sentences
    if advice.method:
        take = advice.model, advice.method
        further = sentences[1:]
        if any(row.verdict.above_all for row in methods if row.verdict is not None):
            further = tuple(write_further_conclusions(methods, baselines, comparisons, take))
    return TaskReport(
        key=key,
        metric=metric.title,
        rows=methods,
        baselines=baselines,
        constant_score=_find_constant_score(baselines),
        sentences=sentences,
        further_sentences=further,
        basis=", ".join(basis),
        highest=metric.highest,
        generates=objective_of(task).generates,
        languages=(task.source_lang or "", task.target_lang or ""),
        grids=_build_grids(task, all_rows),
        advice=advice,
        pareto=build_pareto_table(all_rows),
        pairs=tuple(
            ModelPairs(sanitise_line(model), pairs)
            for model in dict.fromkeys(c.model for c in cells if c.model != NO_MODEL)
            if (pairs := comparisons.pairs(model))
        ),
        memory_table=build_memory_grid([row for row in all_rows if row.cell.cost]),
        model_sizes=build_model_sizes(all_rows),
        disagreement=find_disagreements(all_rows),
        likelihood=build_likelihood(all_rows),
        shifted=build_shifted_grid(all_rows),
        search=build_search_grid(all_rows, records),
        search_front=build_front_grid(all_rows, records),
        forgetting=build_forgetting_grid(all_rows),
    )


def describe_race(
    study: Study, cells: Sequence[Cell], recommendation: Recommendation
) -> tuple[str, ...]:
    """What a recommendation stands for, of a raced study; of another nothing."""
    if study.protocol.race == "off":
        return ()
    return tuple(write_race(foresee_choice(cells, study.protocol, recommendation), cells))


def _add_joint_tables(tasks: Sequence[TaskReport]) -> Iterable[TaskReport]:
    """Add what is computed over all tasks together."""
    errors = build_prediction_grids([task.all_rows for task in tasks])
    # However many translations a study has, their texts fit into one page.
    text_bytes = PAGE_BYTES // max(1, sum(task.generates for task in tasks))
    for task, error in zip(tasks, errors, strict=True):
        segments = None
        if task.generates:
            segments = find_segment_differences(task.all_rows, task.languages, text_bytes)
        yield replace(task, prediction_error=error, segments=segments)


def _note_unknown_metrics(study: Study, cells: Sequence[Cell]) -> Iterable[str]:
    for task in study.tasks:
        of_task = [cell for cell in cells if cell.task == task.key]
        recorded = find_primary_metric([r for c in of_task for r in (*c.final, *c.tuning)])
        if recorded is None and any(cell.bootstrap for cell in of_task):
            yield (
                f"{task.key}: the report does not know the primary score of the records; "
                f"{metrics.get(of_task[0].metric).title} is shown."
            )


def _format_date(ended_at: float | None) -> str:
    """``26 November 2026`` (UTC); empty where it is not known."""
    if ended_at is None:
        return ""
    day = datetime.fromtimestamp(ended_at, UTC)
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _find_constant_score(baselines: Sequence[Row]) -> Interval | None:
    majority = next((row for row in baselines if row.cell.name == "majority"), None)
    # For numbers `majority` predicts their mean, which is no constant class.
    if majority is None or not majority.cell.objective.predicts_labels:
        return None
    return majority.interval


def _describe_basis(rows: Sequence[Row]) -> list[str]:
    """``56 test examples``, ``2 to 3 seeds``: what the task's scores are computed on."""
    intervals = [row.interval for row in rows if row.interval]
    if not intervals:
        return []
    fewest, most = (pick(intervals, key=lambda i: i.n_seeds) for pick in (min, max))
    runs = format_runs(most)
    if fewest.n_seeds != most.n_seeds:
        runs = f"{fewest.n_seeds} to {runs}"
    if most.design.is_cross_validation:
        largest = max(intervals, key=lambda i: i.n_examples)
        basis = [f"all {format_examples(largest)} tested", format_runs(most)]
        # A score is of the runs that trained, and each fold's run has rows of its own.
        least = min(i.n_examples for i in intervals)
        return [*basis, f"{least} where runs failed"] if least < largest.n_examples else basis
    return [format_examples(intervals[0], "test "), runs]


SEEDS, EXAMPLES = 10, 100
"""From these numbers on, coverage was at least 93 % in every simulated study."""


def find_interval_caveats(cells: Sequence[Cell]) -> Iterable[str]:
    """One sentence for each reason that some score gives."""
    scored = [(cell, cell.interval) for cell in cells if cell.interval is not None]
    few = {
        i.n_seeds for _, i in scored if 1 < i.n_seeds < SEEDS and not i.design.is_cross_validation
    }
    if few:
        counts = join_names([str(count) for count in sorted(few)], "or")
        yield (
            f"Intervals over {counts} seeds cover the true score in at least 93 % of simulated "
            "studies where seeds scatter around their mean. Where a method succeeds with most "
            "seeds and fails with some, few seeds may show only one kind, and coverage is lower."
        )
    small = {
        cell.bootstrap.units
        for cell, i in scored
        if i.examples_only and cell.bootstrap and cell.objective.predicts_labels
    }
    if small and min(small) < EXAMPLES:
        yield (
            f"Scores of one run on {min(small)} examples: 95 % is the coverage averaged over true "
            "scores. A proportion of so few examples takes few values, and for some true scores "
            "coverage is only 90 to 93 %."
        )
