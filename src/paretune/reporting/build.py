"""Build the report of a study: the one place where its statistics are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from paretune import metrics
from paretune.analysis.cell import NO_MODEL, Cell, CellKey
from paretune.analysis.cells import group_into_cells
from paretune.analysis.comparisons import PairwiseComparisons
from paretune.analysis.over_tasks import OverTasks, compare_over_tasks
from paretune.analysis.pareto.costs import count_trained_parameters, estimate_cost
from paretune.analysis.pareto.expected_scores import expected_scores
from paretune.analysis.pareto.front import pareto_front
from paretune.analysis.pareto.recommend import recommend
from paretune.analysis.passes import limits_of
from paretune.data.finding import Finding
from paretune.measuring.costs import Backtest, backtest_predictions
from paretune.methods import full
from paretune.methods.core.titles import title_of
from paretune.reporting import Report, overview
from paretune.reporting.disagreement import MAX_TEXTS, find_disagreements
from paretune.reporting.document import (
    ModelSize,
    OverTasksLine,
    StudyReport,
    TaskReport,
)
from paretune.reporting.labelled_rows import build_labelled_rows
from paretune.reporting.measures import (
    build_class_table,
    build_forgetting_table,
    build_metric_table,
    build_plugin_tables,
    build_prediction_table,
    build_shifted_table,
)
from paretune.reporting.next_steps import write_next_steps
from paretune.reporting.parts import CostFront, FrontPoint, PairDifference, Score
from paretune.reporting.rows import CellRow, build_rows
from paretune.reporting.text.conclusions import (
    describe_designs,
    describe_passes,
    describe_protocol,
    describe_scope,
    describe_unfinished,
    write_conclusions,
)
from paretune.reporting.text.formatting import (
    COST_WORDS,
    SELECTED_ON_TEST,
    format_examples,
    format_p_value,
    format_runs,
)
from paretune.reporting.text.recommendation import write_advice
from paretune.store.record import Record, RunStatus
from paretune.study import Study, TaskSpec, digest
from paretune.study.presets import load_preset
from paretune.tasks import objective_of
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line


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
    comparisons = {
        task.key: PairwiseComparisons(
            [cell for cell in cells if cell.task == task.key], study.protocol.reference
        )
        for task in study.tasks
    }
    # However many translations a study has, their texts fit into one page.
    most_texts = MAX_TEXTS // max(1, sum(objective_of(task).generates for task in study.tasks))
    backtests = {(b.cell.task, b.cell.key): b for b in backtest_predictions(cells)}
    tasks = tuple(
        _build_task(
            study,
            task,
            [cell for cell in cells if cell.task == task.key],
            comparisons[task.key],
            [record for record in records if record.run.task.key == task.key],
            backtests,
            most_texts,
        )
        for task in study.tasks
    )
    preset = load_preset(study.protocol.preset)
    ended_at = max((s.ended_at for s in states if s.ended_at is not None), default=None)
    day = None if ended_at is None else datetime.fromtimestamp(ended_at, UTC)
    summary = StudyReport(
        name=sanitise_line(study.study),
        title=sanitise_line(study.title or ""),
        hash=digest([r.run_id for r in records])[:16] if study.is_judged else study.study_hash,
        protocol=" ".join([describe_protocol(study, cells), *describe_designs(study, cells)]),
        settings={} if study.is_judged else study.canonical_form(),
        yaml=overview.format_settings(study),
        runs=len(records),
        waiting=sum(not state.ended for state in states),
        ended_at=ended_at,
        date="" if day is None else f"{day.day} {day:%B %Y}",
        departures=preset.departures() if preset else (),
        judged=study.is_judged,
        scope=describe_scope(cells),
    )
    environment = dict(overview.collect_environment(records))
    audit = tuple(findings)
    return Report(
        study=summary,
        sentence=overview.write_sentence(tasks),
        health=tuple(overview.check_health(summary, tasks, audit)),
        facts=tuple(overview.list_facts(summary, tasks, environment)),
        signs=overview.explain_signs(tasks),
        tasks=tasks,
        over_tasks=write_over_tasks(
            compare_over_tasks(comparisons.values(), study.protocol.reference)
        ),
        labelled_rows=build_labelled_rows(comparisons, study.protocol.reference),
        failures=tuple(overview.collect_failures(cells)),
        unfinished=tuple(describe_unfinished(c) for c in cells if not c.finished),
        findings=audit,
        notes=tuple(overview.collect_notes(study, cells)),
        environment=environment,
    )


def _build_task(
    study: Study,
    task: TaskSpec,
    cells: Sequence[Cell],
    comparisons: PairwiseComparisons,
    records: Sequence[Record],
    backtests: Mapping[tuple[str, CellKey], Backtest],
    most_texts: int,
) -> TaskReport:
    metric = metrics.get(cells[0].metric)
    selected_on_test = any(cell.selected_on_test for cell in cells)
    # 56 test examples, 2 to 3 seeds; with folds a baseline may answer more.
    basis: list[str] = []
    drawn = [cell.interval for cell in cells if cell.interval and not cell.deterministic]
    if drawn and drawn[0].design.is_cross_validation:
        largest = max((c.interval for c in cells if c.interval), key=lambda i: i.n_examples)
        basis = [f"all {format_examples(largest)} tested", format_runs(largest)]
        if (least := min(i.n_examples for i in drawn)) < largest.n_examples:
            basis.append(f"{least} where not every fold has a score")
    elif drawn:
        counts = sorted(drawn, key=lambda i: i.n_seeds)
        fewest, most = counts[0].n_seeds, counts[-1].n_seeds
        fewer = f"{fewest} to " if fewest < most else ""
        basis = [format_examples(drawn[0], "test "), fewer + format_runs(counts[-1])]
    if selected_on_test:
        basis.append(SELECTED_ON_TEST)
    recommendation = recommend(cells, limits_of(study.limits), comparisons)
    advice = write_advice(recommendation, passes=describe_passes(study, cells, recommendation))
    next_steps = write_next_steps(recommendation, shares=study.protocol.rows)
    if study.is_judged:  # nothing of it can be trained further, or exported
        advice, next_steps = advice.model_copy(update={"command": ""}), None
    rows = build_rows(cells, comparisons, advice)
    tables = (
        build_metric_table(task, rows),
        build_class_table(task, rows),
        *build_plugin_tables(task, rows, records),
        build_shifted_table(rows),
        build_forgetting_table(rows),
        build_prediction_table(rows, backtests),
    )
    return TaskReport(
        key=sanitise_line(task.key),
        metric=metric.name,
        metric_title=metric.title,
        highest=metric.highest,
        basis=", ".join(basis),
        generates=objective_of(task).generates,
        selected_on_test=selected_on_test,
        sentences=tuple(write_conclusions(rows, comparisons, recommendation)),
        advice=advice,
        cells=tuple(row.report for row in rows),
        fronts=tuple(_build_fronts(rows)),
        pairs=tuple(
            PairDifference.model_validate(
                {
                    **vars(pair),
                    "model": sanitise_line(model),
                    "a": sanitise_line(pair.a),
                    "b": sanitise_line(pair.b),
                    "p": pair.difference.p,
                    "standing": pair.standing,
                    "mcnemar_p": pair.mcnemar and pair.mcnemar.p,
                }
            )
            for model in dict.fromkeys(cell.model for cell in cells if cell.model != NO_MODEL)
            for pair in comparisons.pairs(model)
        ),
        tables=tuple(table for table in tables if table is not None),
        model_sizes=tuple(_measure_models(rows).values()),
        next_steps=next_steps,
        disagreement=find_disagreements(rows, most_texts),
        rival=comparisons.rival,
    )


def _build_fronts(rows: Sequence[CellRow]) -> Iterable[CostFront]:
    """Build a front for each cost that is known of two scored configurations, over all models."""
    titled = {row.report.title: row for row in rows}
    by_key = expected_scores([row.cell for row in rows])
    expected = {
        title: forecast
        for title, row in titled.items()
        if (forecast := by_key.get((row.cell.model, row.cell.method))) is not None
    }
    for axis in (axis for axis, words in COST_WORDS.items() if words.heading):
        costs = {t: c for t in expected if (c := estimate_cost(titled[t].cell, axis)) is not None}
        if len(costs) < 2:
            continue
        yield CostFront(
            axis=axis,
            points=tuple(
                FrontPoint(
                    model=titled[point.name].report.model,
                    method=titled[point.name].report.method,
                    title=point.name,
                    score=Score.model_validate(point.quality),
                    cost=point.cost,
                    on_front=point.on_front,
                    share_of_draws=point.probability,
                )
                for point in pareto_front(expected, costs)
            ),
        )


def _measure_models(rows: Sequence[CellRow]) -> dict[str, ModelSize]:
    """Return the size of each model whose size can be known.

    Records do not store it. Where full fine-tuning ran, it is what that trained: all parameters,
    head included. Elsewhere it is computed from a cost run in fp32: the bytes of weights and
    buffers, four to a number, minus what the method added.
    """
    counts: list[tuple[CellRow, float, str]] = []
    for row in rows:
        if row.cell.name == full.NAME and (count := count_trained_parameters(row.cell)) is not None:
            counts.append((row, count, "trained by full fine-tuning, head included"))
    for row in rows:
        added = [record.result.get("method_parameters") for record in row.cell.final][:1]
        for record in row.cell.cost if added and row.cell.model != NO_MODEL else ():
            weights_bytes = record.measured.get("components", {}).get("weights_bytes")
            is_fp32 = record.measured.get("precision") == "fp32"
            if added[0] is not None and weights_bytes is not None and is_fp32:
                source = "counted from the bytes of weights and buffers"
                counts.append((row, weights_bytes / 4 - added[0], source))
    sizes: dict[str, ModelSize] = {}
    for row, parameters, source in counts:
        model = row.report.model_label
        size = ModelSize(model=model, parameters=parameters, source=source)
        sizes.setdefault(model, size)
    return sizes


_WHOLE_SCALE = 100.0
"""Points. An interval for other tasks that is wider than the metric's scale says nothing."""
_FEWEST_TASKS = 3
"""With fewer, nothing is said of other tasks: the spread of two has one degree of freedom."""


def write_over_tasks(comparisons: Sequence[OverTasks]) -> tuple[OverTasksLine, ...]:
    """Methods beside references over all tasks, with their texts."""
    first: dict[str, str] = {}
    for comparison in comparisons:
        first.setdefault(comparison.model, comparison.reference)
    words = {"above": "better", "below": "worse", "unclear": "undecided"}
    lines = []
    for comparison in comparisons:
        effects = comparison.effects
        further = []
        if comparison.differs_between_tasks:
            ordered = sorted(effects, key=lambda effect: effect.points)
            lowest, highest = ordered[0], ordered[-1]
            low, high = comparison.any_task
            beyond = f", on any such tasks [{low:+z.1f}, {high:+z.1f}]"
            if len(ordered) < _FEWEST_TASKS or high - low > _WHOLE_SCALE:
                beyond = f"; {len(ordered)} tasks are too few to say anything of others"
            further.append(
                f"effects differ between tasks (p {format_p_value(comparison.p_heterogeneity)}): "
                f"{lowest.points:+z.1f} on {lowest.task} to {highest.points:+z.1f} on "
                f"{highest.task}{beyond}"
            )
        names = (comparison.method, comparison.reference)
        for name, (failed, runs) in zip(names, comparison.failed, strict=True):
            if failed:
                further.append(f"{failed} of {pluralise(runs, 'run')} of {title_of(name)} failed")
        pair = f"{title_of(comparison.method)} against {title_of(comparison.reference)}"
        texts = {
            "pair": f"{pair} on {comparison.model}" if len(first) > 1 else pair,
            "difference": f"{comparison.points:+z.1f} points "
            f"[{comparison.low:+z.1f}, {comparison.high:+z.1f}]",
            "verdict": ": ".join(filter(None, (words[comparison.standing], comparison.withheld))),
            "by_task": ", ".join(f"{e.task} {e.points:+z.1f} ({e.rows:,} rows)" for e in effects),
            "further": "; ".join(further),
        }
        is_main = first[comparison.model] == comparison.reference
        texts = {name: sanitise_line(text) for name, text in texts.items()}
        lines.append(OverTasksLine(comparison=comparison, is_main=is_main, **texts))
    return tuple(lines)
