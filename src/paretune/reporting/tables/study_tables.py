"""Every table of a report as values: numbers for machines, texts for readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.memory_breakdown import RESIDENT_PARTS
from paretune.reporting.model import Report, TaskReport
from paretune.reporting.rows import Grid, Row
from paretune.reporting.tables.column_types import TABLES
from paretune.reporting.tables.cost_columns import build_cost_table
from paretune.reporting.tables.likelihood_table import MEASURES
from paretune.reporting.tables.memory_table import build_memory_grid
from paretune.reporting.text.formatting import (
    format_interval,
    format_n_by_seeds,
    format_rate,
)
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from paretune.analysis.statistics.intervals import Interval

Value = str | float | int | bool | None


@dataclass(frozen=True)
class Table:
    """One table of all tasks.

    ``columns`` and ``values`` are for machines (names in
    :data:`~paretune.reporting.tables.column_types.COLUMNS`, numbers unrounded, None for what is not
    there); ``titles`` and ``texts`` are the same rows for readers; ``notes`` are written below.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    titles: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


TableLine = tuple[dict[str, Value], tuple[str, ...]]
"""A row's values by column, and its texts."""


def build_tables(report: Report) -> tuple[Table, ...]:
    """The tables of a report that have rows.

    Args:
        report: as :func:`~paretune.reporting.build.build_report` gathers it.
    """
    makers: dict[str, Callable[[Report], Table]] = {
        "scores": _scores,
        "comparisons": _comparisons,
        "translations": _translations,
        "shifted": _shifted,
        "forgetting": _forgetting,
        "likelihood": _likelihood,
        "costs": _costs,
        "bytes": _bytes,
        "sizes": _sizes,
        "rates": _rates,
        "failures": _failures,
    }
    return tuple(table for make in makers.values() if (table := make(report)).values)


def _table(name: str, titles: tuple[str, ...], lines: Iterable[TableLine], *notes: str) -> Table:
    title, columns = TABLES[name]
    rows = list(lines)
    return Table(
        name=name,
        title=title,
        columns=columns,
        values=tuple(tuple(values.get(column) for column in columns) for values, _ in rows),
        titles=titles,
        texts=tuple(texts for _, texts in rows),
        notes=tuple(note for note in notes if note),
    )


_NAMES = ("task", "model", "method")


def _cell(task: TaskReport, row: Row) -> dict[str, Value]:
    model = None if row.cell.model == NO_MODEL else row.model
    names = {"task": task.key, "model": model, "method": sanitise_line(row.cell.method)}
    return {**names, "baseline": row.cell.baseline}


def _texts(task: TaskReport, row: Row) -> tuple[str, ...]:
    return task.key, row.model, row.method


def interval_values(score: Interval | None, name: str = "score") -> dict[str, Value]:
    """The columns of a score: itself, the ends of its interval, and what it is computed on."""
    if score is None:
        return {}
    return {
        name: score.estimate,
        "low": score.low,
        "high": score.high,
        "n": score.n_examples,
        "n_groups": score.n_clusters or None,
        "n_questions": score.n_questions or None,
        "seeds": score.n_seeds,
    }


def _n_by_seeds(score: Interval | None) -> str:
    return format_n_by_seeds(score) if score else ""


_BASIS = (
    "Intervals: 95 %, over seeds and test examples; n x seeds: number of test examples (in groups "
    "that depend on one another) and of seeds."
)


def _scores(report: Report) -> Table:
    def lines() -> Iterable[TableLine]:
        for task in report.tasks:
            for row in task.all_rows:
                if not row.cell.final and not row.cell.all_trials_failed:
                    continue
                score = row.interval
                marks = {"undecided": row.cell.undecided, "edge": row.cell.edge}
                verdict = row.verdict.summary if row.verdict else ""
                flags = "; ".join(row.flags)
                values = {
                    **_cell(task, row),
                    "metric": task.metric,
                    **interval_values(score),
                    "from_seeds": score.share_seeds if score and score.n_seeds > 1 else None,
                    "learning_rate": row.cell.rate,
                    "rate_marks": ", ".join(mark for mark, holds in marks.items() if holds),
                    "verdict": verdict,
                    "flags": flags,
                    **_failure_values(row),
                    "at_most_points_worse": row.shortfall.points if row.shortfall else None,
                }
                score_text = format_interval(score) if score else "no score"
                verdict_text = "; ".join(text for text in (verdict, flags) if text)
                yield (
                    values,
                    (
                        *_texts(task, row),
                        task.metric,
                        score_text,
                        _n_by_seeds(score),
                        row.rate,
                        verdict_text,
                    ),
                )

    titles = (*_NAMES, "metric", "score [95 %]", "n x seeds", "rate", "beside the baselines")
    return _table(
        "scores",
        titles,
        lines(),
        _BASIS,
        "Beside the baselines: paired on the same examples, corrected over a model's methods.",
    )


def _failure_values(row: Row) -> dict[str, Value]:
    rate = row.cell.failures
    if rate is None or not rate.runs:
        return {}
    return {"failed": rate.failed, "failed_of": rate.runs, "failed_high": rate.high}


def _comparisons(report: Report) -> Table:
    def lines() -> Iterable[TableLine]:
        for task in report.tasks:
            for row in task.all_rows:
                for one in row.verdict.comparisons if row.verdict else ():
                    difference = one.difference
                    values = {
                        **_cell(task, row),
                        "against": one.baseline,
                        "metric": task.metric,
                        **interval_values(difference, "difference"),
                        "p": difference.p,
                        "p_holm": one.p_holm,
                        "standing": one.standing,
                    }
                    p = f"{one.p_holm:.3f}" if one.p_holm >= 0.001 else "under 0.001"
                    basis = _n_by_seeds(difference)
                    yield (
                        values,
                        (
                            *_texts(task, row),
                            one.baseline,
                            format_interval(difference),
                            basis,
                            p,
                            one.standing,
                        ),
                    )

    titles = (*_NAMES, "against", "difference [95 %]", "n x seeds", "p (corrected)", "standing")
    return _table("comparisons", titles, lines(), _BASIS)


def _translations(report: Report) -> Table:
    def lines() -> Iterable[TableLine]:
        for task in report.tasks:
            for grid in task.grids:
                for (row, texts), intervals in zip(grid.rows, grid.intervals, strict=True):
                    for title, text, one in zip(grid.titles, texts, intervals, strict=True):
                        names = {"table": grid.title, "metric": title}
                        yield (
                            {**_cell(task, row), **names, **interval_values(one)},
                            (*_texts(task, row), grid.title, title, text, _n_by_seeds(one)),
                        )

    notes = dict.fromkeys(n for task in report.tasks for grid in task.grids for n in grid.notes)
    titles = (*_NAMES, "table", "metric", "score [95 %]", "n x seeds")
    return _table("translations", titles, lines(), _BASIS, *notes)


def _likelihood(report: Report) -> Table:
    grids = [(task, task.likelihood.grid) for task in report.tasks if task.likelihood]
    return _measures("likelihood", grids, MEASURES)


def _shifted(report: Report) -> Table:
    grids = [(task, task.shifted) for task in report.tasks if task.shifted]
    return _measures("shifted", grids, ("score", "change"))


def _forgetting(report: Report) -> Table:
    grids = [(task, task.forgetting) for task in report.tasks if task.forgetting]
    return _measures("forgetting", grids, ("change of the token loss",))


def _measures(
    name: str, grids: Sequence[tuple[TaskReport, Grid]], measures: Sequence[str]
) -> Table:
    """A line for each measure that a row of a grid has; measures are its first columns."""

    def lines() -> Iterable[TableLine]:
        for task, grid in grids:
            for (row, texts), intervals in zip(grid.rows, grid.intervals, strict=True):
                for measure, text, one in zip(measures, texts, intervals, strict=False):
                    if one is not None:
                        values = {**_cell(task, row), "metric": measure, **interval_values(one)}
                        yield values, (*_texts(task, row), measure, text, _n_by_seeds(one))

    notes = dict.fromkeys(note for _, grid in grids for note in (grid.above, *grid.notes))
    titles = (*_NAMES, "measure", "mean [95 %]", "n x seeds")
    return _table(name, titles, lines(), _BASIS, *notes)


def _measured_rows(report: Report) -> list[tuple[TaskReport, Row]]:
    return [(task, row) for task in report.tasks for row in task.measured_rows]


def _costs(report: Report) -> Table:
    rows = _measured_rows(report)
    costs = build_cost_table([row.cost for _, row in rows])

    def lines() -> Iterable[TableLine]:
        for (task, row), texts in zip(rows, costs.rows, strict=True):
            cost, count = row.cost, len(row.cell.cost)
            trained = cost.trained.value
            values: dict[str, Value] = {
                **_cell(task, row),
                "measurements": count,
                "peak_bytes": cost.memory.value,
                "evaluation_peak_bytes": cost.evaluation.value,
                "step_seconds": cost.step.value,
                "inference_seconds": cost.latency.value,
                "trained_parameters": None if trained is None else int(trained),
                "saved_bytes": cost.saved.value,
                "step_joules": cost.energy.value,
                "conditions": cost.conditions,
                "counter": cost.counter,
            }
            yield values, (*_texts(task, row), *texts)

    conditions = "; ".join(dict.fromkeys(row.cost.conditions for _, row in rows))
    counters = dict.fromkeys(row.cost.counter for _, row in rows if row.cost.counter)
    return _table(
        "costs",
        (*_NAMES, *costs.titles),
        lines(),
        f"One solo measurement each, in a fresh process, unless a range is shown: {conditions}.",
        *(f"Memory: {counter}." for counter in counters),
        *(f"{text[:1].upper()}{text[1:]}." for text in costs.absent),
    )


def _bytes(report: Report) -> Table:
    measured = _measured_rows(report)
    grid = build_memory_grid([row for _, row in measured])
    tasks = iter([task for task, row in measured if row.memory and row.memory.counted])

    def lines() -> Iterable[TableLine]:
        for task, (row, texts) in zip(tasks, grid.rows if grid else (), strict=True):
            memory = row.memory
            assert memory is not None  # noqa: S101 - it has a line
            values: dict[str, Value] = {
                **_cell(task, row),
                "measurements": memory.measurements,
                **{
                    f"{name}_bytes": memory.counted.get(name)
                    for name in (*RESIDENT_PARTS, "activations")
                },
                "working_bytes": memory.working,
                "rest_bytes": memory.rest,
                "peak_bytes": memory.peak,
            }
            yield values, (*_texts(task, row), *texts)

    notes = (grid.above, *grid.notes) if grid else ()
    return _table("bytes", (*_NAMES, *(grid.titles if grid else ())), lines(), *notes)


def _sizes(report: Report) -> Table:
    compared = [(task, task.model_sizes) for task in report.tasks if task.model_sizes]

    def lines() -> Iterable[TableLine]:
        for task, sizes in compared:
            for row, texts in sizes.table.rows:
                count = sizes.parameters[row.cell.model]
                values: dict[str, Value] = {
                    **_cell(task, row),
                    "model_parameters": count.value,
                    "counted_from": count.source,
                    "metric": task.metric,
                    **interval_values(row.interval),
                    "measurements": len(row.cell.cost),
                    "peak_bytes": row.cost.memory.value,
                }
                yield values, (*_texts(task, row), *texts)

    titles = compared[0][1].table.titles if compared else ()
    notes = dict.fromkeys(f"{task.key}: {sizes.comparison}" for task, sizes in compared)
    return _table("sizes", (*_NAMES, *titles), lines(), _BASIS, *notes)


def _rates(report: Report) -> Table:
    def lines() -> Iterable[TableLine]:
        for task in report.tasks:
            for row in task.tuned_rows:
                for trial in row.trials:
                    chosen = trial.rate == row.cell.rate
                    values: dict[str, Value] = {
                        **_cell(task, row),
                        "learning_rate": trial.rate,
                        **interval_values(trial.score, "selection_score"),
                        "folds": trial.folds,
                        "lost": trial.failed,
                        "chosen": chosen,
                    }
                    score = format_interval(trial.score) if trial.score else "no score"
                    folds = (str(trial.folds), str(trial.failed), "chosen" if chosen else "")
                    names = (*_texts(task, row), format_rate(trial.rate))
                    yield values, (*names, score, _n_by_seeds(trial.score), *folds)

    titles = (*_NAMES, "rate", "selection score [95 %]", "n x seeds", "folds", "lost", "chosen")
    return _table(
        "rates",
        titles,
        lines(),
        "Selection score: mean primary score on the selection parts, with 95 % over their "
        "examples; one tuning seed, so seeds are not in it. It chooses the rate and is no result.",
    )


def _failures(report: Report) -> Table:
    lines: list[TableLine] = [
        (
            {"where": f.where, "outcome": f.outcome, "runs": f.runs, "said": f.message},
            (f.where, f.outcome, str(f.runs), f.message),
        )
        for f in report.failures
    ]
    return _table("failures", ("runs of", "outcome", "runs", "what they said"), lines)
