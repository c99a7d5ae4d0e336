"""Every table of a report, read from the document."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from paretune.analysis.memory_breakdown import MemoryBreakdown
from paretune.analysis.pareto.expected_scores import name_chance
from paretune.methods.core.titles import title_of
from paretune.reporting.document import Document, ModelSize, OverTasksLine, TaskReport
from paretune.reporting.parts import (
    Amount,
    CellReport,
    Plain,
    Score,
    Value,
)
from paretune.reporting.table import (
    BASIS,
    LABEL,
    Column,
    RowValues,
    Table,
    column,
    file_column,
    name_row,
    write_basis,
    write_score,
)
from paretune.reporting.text.formatting import (
    COST_WORDS,
    format_bytes,
    format_p_value,
    format_parameters,
    format_part,
    format_rank,
    format_rate,
    join_names,
)
from paretune.terminal.sanitise import sanitise_line

WORDS = 40
"""A column with longer texts holds sentences."""
_SCORE = column("score", "score [95 %]")
_P_HOLM = column("p_holm", "p (corrected)")
_NO_SCORE = Value(value=None, text="no score")
_INTERVALS = (
    "Intervals: 95 %, over seeds and test examples; n x seeds: number of test examples (in groups "
    "that depend on one another) and of seeds."
)


def find_word_columns(table: Table) -> frozenset[int]:
    """Find the places of columns that hold sentences: their lines wrap."""
    longest = [max(map(len, texts)) for texts in zip(*table.texts, strict=True)]
    return frozenset(place for place, length in enumerate(longest) if length > WORDS)


def build_score_table(task: TaskReport) -> Table:
    """Build the scores beside the baselines, a row for each cell of which a run has ended."""
    rows: list[RowValues] = []
    judged = any(cell.cost.of_runs for cell in task.cells)
    failing = not judged or any(cell.failures for cell in task.cells)
    for cell in task.cells:
        if not cell.has_ended:
            continue
        score, verdict, failures = cell.score, cell.verdict, cell.failures
        points = cell.at_most_points_worse
        text = "–"
        if points is not None:
            text = f"≤ {points:.{1 if points < 10 else 0}f}" if points > 0 else "best"
        marks = {"undecided": cell.rate_undecided, "edge": bool(cell.rate_edge)}
        failed = "–"  # what cannot fail
        if failures and failures.runs:
            failed = f"{failures.failed} of {failures.runs} (≤ {100 * failures.high:.0f} %)"
        words = verdict.summary if verdict else "baseline" if cell.baseline else ""
        rate = format_rate(cell.rate)
        rate_marks = ["runner-up close"] if cell.rate_undecided else []
        if cell.rate_edge:
            rate_marks.append(f"{cell.rate_edge} tried")
        share = "" if score is None else "not known"
        if score and (cell.deterministic or score.share_seeds is not None):
            share = "–" if cell.deterministic else f"{100 * (score.share_seeds or 0):.0f} %"
        rows.append(
            {
                **name_row(cell),
                file_column("metric"): task.metric_title,
                _SCORE: write_score(score) or _NO_SCORE,
                column("rank"): format_rank(cell.rank),
                BASIS: write_basis(score),
                Column(name="rate", heading="" if judged else "rate", words=True): (
                    f"{rate} ({', '.join(rate_marks)})" if rate_marks else rate
                ),
                column("words", f"beside the {task.rival}s", words=True): "; ".join(
                    filter(None, (words, *cell.flags))
                ),
                column("at_most_points_worse", "points below best"): Value(value=points, text=text),
                Column(name="failed", heading="failed runs" if failing else ""): Value(
                    value=failures.failed if failures else None, text=failed
                ),
                column("from_seeds", "from seeds"): Value(
                    value=score.share_seeds if score else None, text=share
                ),
                file_column("standing"): verdict.standing if verdict else None,
                file_column("learning_rate"): cell.rate,
                file_column("rate_marks"): ", ".join(
                    mark for mark, holds in marks.items() if holds
                ),
                file_column("verdict"): verdict.summary if verdict else "",
                file_column("flags"): "; ".join(cell.flags),
                file_column("failed_of"): failures.runs if failures else None,
                file_column("failed_high"): failures.high if failures else None,
                file_column("train_seconds"): cell.run_seconds,
            }
        )
    return Table.collect("scores", f"Scores beside the {task.rival}s", rows)


def build_pair_table(task: TaskReport) -> Table:
    """Build a row for every pair on a model."""
    words = {"above": "first is better", "below": "second is better", "unclear": "undecided"}
    rows: Iterable[RowValues] = (
        {
            file_column("model"): pair.model,
            file_column("method"): pair.a,
            file_column("against"): pair.b,
            file_column("metric"): task.metric_title,
            column("label", "first", words=True): title_of(pair.a),
            column("second", words=True): title_of(pair.b),
            column("difference", "difference [95 %]"): write_score(pair.difference),
            BASIS: write_basis(pair.difference),
            file_column("p"): pair.p,
            _P_HOLM: Value(value=pair.p_holm, text=format_p_value(pair.p_holm)),
            column("mcnemar_p", "McNemar"): None
            if pair.mcnemar_p is None
            else Value(value=pair.mcnemar_p, text=format_p_value(pair.mcnemar_p)),
            file_column("standing"): pair.standing,
            column("decision", words=True): words[pair.standing],
        }
        for pair in task.pairs
    )
    return Table.collect("pairs", "Every pair", rows)


def build_front_table(task: TaskReport) -> Table | None:
    """Build the costs with the probability of being on each front; None without a front."""
    points = {
        (point.model, point.method, front.axis): point
        for front in task.fronts
        for point in front.points
    }
    rows: list[RowValues] = []
    for cell in task.cells:
        on_axes = {f.axis: points.get((cell.model, cell.method, f.axis)) for f in task.fronts}
        present = [point for point in on_axes.values() if point]
        if not present:
            continue
        row: dict[Column, Value | Plain] = {
            **name_row(cell),
            file_column("constant"): cell.collapsed,
            _SCORE: write_score(present[0].score),
            BASIS: write_basis(present[0].score),
        }
        for axis, point in on_axes.items():
            text = "not measured"
            if point:
                on_front = name_chance(point.share_of_draws)
                text = f"{COST_WORDS[axis].write(point.cost.value)} | {on_front}"
            row[column(axis, COST_WORDS[axis].heading)] = Value(
                value=point.cost.value if point else None, text=text
            )
        rows.append(row)
    if not rows:
        return None
    return Table.collect(
        "front",
        "Pareto front: cost | whether it is likely on it",
        rows,
        notes=(
            "Cost, and whether it is likely that no other configuration is both as cheap and as "
            "good: in over 80 % of 2,000 draws (test examples, seeds, cost where its spread was "
            "measured); unlikely: in under 20 %. The cheapest is always on the front, however low "
            "its score. Runs that failed count as the constant answer.",
        ),
    )


COSTS = {
    "memory": column("peak_bytes", "peak in training"),
    "evaluation": column("evaluation_peak_bytes", "peak in evaluation"),
    "step": column("step_seconds", "step, median (quartiles)"),
    "latency": column("inference_seconds", "inference per example"),
    "trained": column("trained_parameters", "trained parameters"),
    "saved": column("saved_bytes", "saved"),
}
"""The columns of the fields of :class:`~paretune.reporting.parts.CellCost`."""


def build_cost_table(task: TaskReport, only: Collection[str] = tuple(COSTS)) -> Table:
    """Build the costs of measured cells; a cost that no cell has is a note with its reasons.

    Args:
        only: of :data:`COSTS`; the others are in files alone.
    """
    costs = [(cell, dict(cell.cost)) for cell in task.measured_cells]
    measured, absent = [], []
    for key in only:
        amounts: list[Amount] = [amounts[key] for _, amounts in costs]
        if any(amount.value is not None for amount in amounts):
            measured.append(key)
        else:
            reasons = "; ".join(dict.fromkeys(amount.text for amount in amounts))
            heading = COSTS[key].heading
            absent.append(f"{heading[:1].upper()}{heading[1:]}: {reasons}.")
    of_runs = any(cost["of_runs"] for _, cost in costs)
    if of_runs and not measured:
        costs = []
    conditions = f": {task.conditions}" if task.conditions else ""
    counters = dict.fromkeys(cell.cost.counter for cell, _ in costs if cell.cost.counter)
    return Table.collect(
        "costs",
        "Cost",
        (
            {
                **name_row(cell),
                file_column("measurements"): len(cell.costs),
                **{
                    named if key in measured else file_column(named.name): amounts[key]
                    for key, named in COSTS.items()
                },
                file_column("conditions"): cell.cost.conditions,
                file_column("counter"): cell.cost.counter,
            }
            for cell, amounts in costs
        ),
        above=f"{task.describe_measurements()}, unless a range is shown"
        f"{conditions}.{''.join(f' Memory: {counter}.' for counter in counters)}",
        # Of runs that were trained elsewhere most costs are not known.
        notes=() if of_runs else absent,
    )


_PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "activations": "activations",
    "rest": "rest",
    "peak": "peak in training",
}
MERGED = "in the rest"
"""Text for activations that cannot be separated from temporary results."""


def build_memory_table(task: TaskReport) -> Table | None:
    """Build peak memory by part; None where no part of any cell was counted."""
    counted = [(c, c.memory) for c in task.cells if c.memory and c.memory.counted]
    if not counted:
        return None
    most = max(memory.measurements for _, memory in counted)
    basis = "One solo measurement each, in a fresh process."
    if most > 1:
        basis = f"Means over the solo measurements of a cell, {most} at most."
    rows: list[RowValues] = []
    for cell, memory in counted:
        sizes = {**memory.counted, "rest": memory.rest, "peak": memory.peak}
        texts = {name: format_part(sizes.get(name)) for name in _PARTS}
        if "working" in dict(memory.stack):
            texts |= {"activations": MERGED, "rest": format_bytes(memory.working or 0)}
        rows.append(
            {
                **name_row(cell),
                file_column("measurements"): memory.measurements,
                **{
                    column(f"{name}_bytes", heading): Value(value=sizes.get(name), text=texts[name])
                    for name, heading in _PARTS.items()
                },
                file_column("working_bytes"): memory.working,
            }
        )
    return Table.collect(
        "bytes",
        "Where the bytes go",
        rows,
        above=f"{basis} The parts add up to the peak.",
        notes=_note_memory([(cell.title, memory) for cell, memory in counted]),
    )


def _note_memory(measured: Sequence[tuple[str, MemoryBreakdown]]) -> Iterable[str]:
    yield (
        "Weights, gradients and optimiser states are counted tensor by tensor; activations are "
        "what one forward pass saves for its backward pass; the rest is temporary results and "
        "fragmentation."
    )
    if sizes := [
        f"{format_bytes(memory.counted['activations'])} for {title}"
        for title, memory in measured
        if memory.stack and memory.rest is None and "activations" in memory.counted
    ]:
        yield (
            f"{MERGED}: the counted forward pass saves more ({join_names(sizes)}) than there was "
            "room for under the peak, for example where a step takes its batch in several passes; "
            "activations and temporary results cannot be separated then."
        )
    if unequal := [title for title, m in measured if m.peak is not None and not m.stack]:
        yield (
            f"The parts of {join_names(unequal)} do not add up to the peak: one was not counted, "
            "or pages that were never touched are counted and not resident."
        )
    reasons: dict[str, list[str]] = {}
    for title, memory in measured:
        for name, reason in memory.missing.items():
            reasons.setdefault(sanitise_line(f"{_PARTS[name]}: {reason}"), []).append(title)
    for text, titles in reasons.items():
        yield f"Not known for {join_names(titles)}: {text}."


def build_size_table(task: TaskReport) -> Table | None:
    """Build score and memory by method and model, the smallest model first.

    None unless a method has scores on two models of known size.
    """
    sizes = {size.model: size for size in task.model_sizes}
    scored = [cell for cell in task.cells if cell.score and cell.model]
    by_method: dict[str, list[tuple[ModelSize, CellReport]]] = {}
    for cell in scored:
        if size := sizes.get(cell.model or ""):
            by_method.setdefault(cell.label, []).append((size, cell))
    if max(map(len, by_method.values()), default=0) < 2:
        return None
    notes = ["Whatever else differs between models (family, data, tokenizer) is in it too."]
    notes += dict.fromkeys(f"Parameters: {size.source}." for size in sizes.values())
    if unknown := sorted({str(cell.model) for cell in scored} - set(sizes)):
        notes.append(f"Not shown, since no record says how large they are: {join_names(unknown)}.")
    rows: Iterable[RowValues] = (
        {
            **name_row(cell),
            column("model_parameters", "parameters"): Value(
                value=size.parameters, text=format_parameters(size.parameters)
            ),
            file_column("counted_from"): size.source,
            file_column("metric"): task.metric_title,
            _SCORE: write_score(cell.score),
            BASIS: write_basis(cell.score),
            file_column("measurements"): len(cell.costs),
            column("peak_bytes", "peak memory in training"): cell.cost.memory,
        }
        for pairs in by_method.values()
        for size, cell in sorted(pairs, key=lambda pair: pair[0].parameters)
    )
    return Table.collect("sizes", "Model size, score and memory", rows, notes=notes)


def build_rate_table(task: TaskReport) -> Table:
    """Build the choices of learning rates."""
    rows: Iterable[RowValues] = (
        {
            **name_row(cell),
            column("rate", words=True): format_rate(trial.rate),
            file_column("learning_rate"): trial.rate,
            column("selection_score", "selection score [95 %]"): write_score(trial.score)
            or _NO_SCORE,
            BASIS: write_basis(trial.score),
            column("folds"): trial.folds,
            column("lost"): trial.lost,
            file_column("chosen"): trial.rate == cell.rate,
            column("choice", "chosen", words=True): "chosen" if trial.rate == cell.rate else "",
        }
        for cell in task.cells
        for trial in cell.tried
    )
    return Table.collect(
        "rates",
        "How the learning rates were chosen",
        rows,
        notes=(
            "Selection score: mean primary score on the selection parts, with 95 % over their "
            "examples; one tuning seed, so seeds are not in it. It chooses the rate and is no "
            "result.",
        ),
    )


def build_over_tasks_table(lines: Sequence[OverTasksLine]) -> Table:
    """Build the comparison of methods over all tasks."""
    further = any(line.further for line in lines)
    rows: Iterable[RowValues] = (
        {
            file_column("model"): line.comparison.model,
            file_column("method"): line.comparison.method,
            file_column("against"): line.comparison.reference,
            column("label", "methods", words=True): line.pair,
            column("points", "difference [95 %]"): Value(
                value=line.comparison.points, text=line.difference
            ),
            file_column("low"): line.comparison.low,
            file_column("high"): line.comparison.high,
            file_column("p"): line.comparison.p,
            file_column("p_holm"): line.comparison.p_holm,
            file_column("standing"): line.comparison.standing,
            column("verdict", words=True): line.verdict,
            column("by_task", "by task", words=True): line.by_task,
            **({column("further", words=True): line.further} if further else {}),
        }
        for line in lines
    )
    return Table.collect(
        "over-tasks",
        "Over all tasks",
        rows,
        notes=(
            "First minus second in points (hundredths of the metric's highest value) with 95 % "
            "intervals; each task weighs as many rows as its test part has. Better or worse: "
            "proven at 95 % on these tasks, corrected over all lines of this table (Holm). Where "
            "effects differ between tasks (Welch's test, p under 0.10) the interval for any such "
            "tasks stands beside it, from three tasks on.",
        ),
    )


def build_failure_table(report: Document) -> Table:
    """Build the failures of all tasks."""
    rows: Iterable[RowValues] = (
        {
            column("where", "runs of", words=True): failure.where,
            column("outcome", words=True): failure.outcome,
            column("runs"): failure.runs,
            column("message", words=True): failure.message,
        }
        for failure in report.failures
    )
    return Table.collect("failures", "What failed", rows)


def build_tables(report: Document) -> list[Table]:
    """Build the tables that are written to files: those of all tasks that have rows."""
    by_name: dict[str, list[tuple[str, Table]]] = {}
    for task in report.tasks:
        for table in (
            build_score_table(task),
            build_pair_table(task),
            *map(_list_scores, task.tables),
            build_cost_table(task),
            build_memory_table(task),
            build_size_table(task),
            build_rate_table(task),
        ):
            if table and table.rows:
                by_name.setdefault(table.name, []).append((task.key, table))
    tables = [build_over_tasks_table(report.over_tasks), build_failure_table(report)]
    if rows := report.labelled_rows:
        tables += [rows.differences, rows.scores]
    # One table of all tasks, with task, model and metric in front.
    for place, (name, of_name) in enumerate(by_name.items()):
        names = ["task", "model", *(["metric"] if name == "scores" else [])]
        columns: dict[str, Column] = {}
        for of_task in (of_one for _, table in of_name for of_one in table.columns):
            columns.setdefault(of_task.name, of_task)
        notes = [_INTERVALS] if BASIS in columns.values() else []
        if name == "scores":
            notes.append(
                "Beside the baselines: paired on the same examples, corrected over a model's "
                "methods."
            )
        notes += [note for _, table in of_name for note in (table.above, *table.notes) if note]
        joined = {
            "columns": (*map(column, names), *columns.values()),
            "rows": tuple({"task": task, **row} for task, table in of_name for row in table.rows),
            "notes": tuple(dict.fromkeys(notes)),
        }
        tables.insert(place, of_name[0][1].model_copy(update=joined))
    return [table for table in tables if table.rows]


def _list_scores(table: Table) -> Table:
    """List a row for each score of a table of further measures."""
    rows: Iterable[RowValues] = (
        {
            file_column("model"): row.get("model"),
            file_column("method"): row.get("method"),
            LABEL: row.get("label"),
            file_column("baseline"): row.get("baseline"),
            column("metric", "measure", words=True): measure.heading.removesuffix(" [95 %]"),
            column("text", "mean [95 %]", words=True): line[place],
            file_column("score"): write_score(score),
            BASIS: write_basis(score),
        }
        for row, values, line in zip(table.rows, table.values, table.texts, strict=True)
        for place, measure in enumerate(table.columns)
        if isinstance(score := values.get(measure.name), Score)
    )
    return Table.collect(table.name, table.title, rows, notes=(table.above, *table.notes))
