"""Every table of a report, read from the document, and the texts of its values.

A :class:`~paretune.reporting.parts.Table` has each row once, as values; all renderers take their
texts from :func:`format_value`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from paretune.analysis.pareto.costs import Axis
from paretune.methods.core.titles import title_of
from paretune.reporting.document import Report, TaskReport
from paretune.reporting.parts import (
    Amount,
    CellCost,
    CellReport,
    Column,
    PairDifference,
    Score,
    Table,
    TableRow,
)
from paretune.reporting.text.formatting import (
    format_amount,
    format_bytes,
    format_failed,
    format_interval,
    format_n_by_seeds,
    format_p_value,
    format_parameters,
    format_part,
    format_point_difference,
    format_rank,
    format_rate,
    format_share,
    join_names,
)
from paretune.terminal.sanitise import sanitise_line

WORDS = 40
"""A column with longer texts holds sentences."""
LABEL = Column(name="label", heading="method", kind="words")
_SCORE = Column(name="score", heading="score [95 %]")
_BASIS = Column(name="score", heading="n x seeds", kind="basis")
_NO_SCORE = Amount(value=None, text="no score")
_INTERVALS = (
    "Intervals: 95 %, over seeds and test examples; n x seeds: number of test examples (in groups "
    "that depend on one another) and of seeds."
)


OVER_TASKS_NOTE = (
    "First minus second in points (hundredths of the metric's highest value) with 95 % intervals; "
    "each task weighs as many rows as its test part has. Better or worse: proven at 95 % on these "
    "tasks, corrected over all lines of this table (Holm). Where effects differ "
    "between tasks (Welch's test, p under 0.10) the interval for any such tasks stands beside it, "
    "from three tasks on."
)


def format_value(column: Column, row: TableRow) -> str:
    """What readers see of a value; a dash for none, nothing where words are missing."""
    value = row.get(column.name)
    if column.kind == "basis":
        return format_n_by_seeds(value) if isinstance(value, Score) else ""
    if isinstance(value, Score):
        if column.kind == "points":
            return format_point_difference(value)
        return format_interval(value, column.digits)
    if isinstance(value, Amount):
        return value.text
    if value is None:
        return "" if column.kind == "words" else "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def hide_details(table: Table) -> Table:
    """A table without the columns that only the page has room for."""
    columns = tuple(column for column in table.columns if not column.detail)
    return table.model_copy(update={"columns": columns})


def format_rows(table: Table) -> list[list[str]]:
    """The texts of a table, row by row."""
    return [[format_value(column, row) for column in table.columns] for row in table.rows]


def find_word_columns(table: Table) -> frozenset[int]:
    """Columns that hold sentences rather than numbers, so that they wrap: by their place."""
    longest = [max(map(len, texts)) for texts in zip(*format_rows(table), strict=True)]
    return frozenset(place for place, length in enumerate(longest) if length > WORDS)


def _name(cell: CellReport) -> TableRow:
    return {
        "model": cell.model,
        "method": cell.method,
        "label": cell.label,
        "baseline": cell.baseline,
    }


def build_score_table(task: TaskReport) -> Table:
    """Scores beside the baselines: a row for each cell of which a run has ended."""
    return Table(
        name="scores",
        title="Scores beside the baselines",
        columns=(
            LABEL,
            _SCORE,
            Column(name="rank", heading="rank"),
            _BASIS,
            Column(name="rate", heading="rate", kind="words"),
            Column(name="words", heading="beside the baselines", kind="words"),
            Column(name="shortfall", heading="points below best"),
            Column(name="failures", heading="failed runs"),
            Column(name="seed_share", heading="from seeds", detail=True),
        ),
        rows=tuple(_read_score_row(task, cell) for cell in task.cells if cell.has_ended),
    )


def _read_score_row(task: TaskReport, cell: CellReport) -> TableRow:
    score, verdict, points = cell.score, cell.verdict, cell.at_most_points_worse
    marks = {"undecided": cell.rate_undecided, "edge": bool(cell.rate_edge)}
    words = verdict.summary if verdict else "baseline" if cell.baseline else ""
    share = "" if score is None else "not known"
    if score and (cell.deterministic or score.share_seeds is not None):
        share = "–" if cell.deterministic else f"{100 * (score.share_seeds or 0):.0f} %"
    return {
        **_name(cell),
        "metric": task.metric_title,
        "score": score or _NO_SCORE,
        "rank": format_rank(cell.rank),
        "rate": cell.rate_text,
        "words": "; ".join(filter(None, (words, *cell.flags))),
        "shortfall": _format_shortfall(points),
        "failures": format_failed(cell.failures),
        "seed_share": share,
        "verdict_standing": verdict.standing if verdict else "",
        "from_seeds": score.share_seeds if score else None,
        "learning_rate": cell.rate,
        "rate_marks": ", ".join(mark for mark, holds in marks.items() if holds),
        "verdict": verdict.summary if verdict else "",
        "flags": "; ".join(cell.flags),
        "failed": cell.failures.failed if cell.failures else None,
        "failed_of": cell.failures.runs if cell.failures else None,
        "failed_high": cell.failures.high if cell.failures else None,
        "at_most_points_worse": points,
    }


def _format_shortfall(points: float | None) -> str:
    """``≤ 4.2``: points that a method may be worse than the best; ``best`` where that is proven."""
    if points is None:
        return "–"
    return f"≤ {points:.1f}" if 0 < points < 10 else f"≤ {points:.0f}" if points else "best"


def build_comparison_table(task: TaskReport) -> Table:
    """Differences from the baselines."""
    return Table(
        name="comparisons",
        title="Differences from the baselines",
        columns=(
            LABEL,
            Column(name="against", heading="against", kind="words"),
            Column(name="difference", heading="difference [95 %]"),
            Column(name="difference", heading="n x seeds", kind="basis"),
            Column(name="p_holm", heading="p (corrected)"),
            Column(name="standing", heading="standing", kind="words"),
        ),
        rows=tuple(
            {
                **_name(cell),
                "against": comparison.baseline,
                "metric": task.metric_title,
                "difference": comparison.difference,
                "p": comparison.difference.p,
                "p_holm": _p_value(comparison.p_holm),
                "standing": comparison.standing,
            }
            for cell in task.cells
            for comparison in cell.comparisons
        ),
    )


def _p_value(p: float) -> Amount:
    return Amount(value=p, text=format_p_value(p))


def build_pair_table(
    pairs: Sequence[PairDifference], digits: int | None = None, *, likelihoods: bool = False
) -> Table:
    """Every pair on a model, by scores or by log-likelihoods."""
    words = {"above": "first is better", "below": "second is better", "unclear": "undecided"}
    if likelihoods:
        words |= {"above": "first", "below": "second"}
    mcnemar = () if likelihoods else (Column(name="mcnemar", heading="McNemar"),)
    return Table(
        name="pairs",
        title="Every pair",
        columns=(
            Column(name="label", heading="first", kind="words"),
            Column(name="second", heading="second", kind="words"),
            Column(name="difference", heading="difference [95 %]", digits=digits),
            Column(name="difference", heading="n x seeds", kind="basis"),
            Column(name="p_holm", heading="p (corrected)"),
            *mcnemar,
            Column(
                name="decision",
                heading="more likely answers" if likelihoods else "decision",
                kind="words",
            ),
        ),
        rows=tuple(
            {
                "model": pair.model,
                "label": sanitise_line(title_of(pair.a)),
                "second": sanitise_line(title_of(pair.b)),
                "difference": pair.difference,
                "p_holm": _p_value(pair.p_holm),
                "mcnemar": None if pair.mcnemar_p is None else _p_value(pair.mcnemar_p),
                "decision": words[pair.standing],
            }
            for pair in pairs
        ),
    )


FRONT_HEADINGS: Mapping[Axis, str] = {
    "memory": "peak memory",
    "time": "to train",
    "parameters": "trained",
    "saved": "saved",
    "inference": "inference",
    "forgetting": "forgetting",
}
"""The costs that a report shows, as headings of narrow columns."""


def build_front_table(task: TaskReport) -> Table | None:
    """Each cost with the probability of being on its front; None without a front."""
    points = {
        (point.model, point.method, front.axis): point
        for front in task.fronts
        for point in front.points
    }
    if not points:
        return None
    rows: list[TableRow] = []
    for cell in task.cells:
        on_axes = [points.get((cell.model, cell.method, front.axis)) for front in task.fronts]
        present = [point for point in on_axes if point]
        if present:
            costs: TableRow = {
                front.axis: "not measured"
                if point is None
                else Amount(
                    value=point.value,
                    text=f"{format_amount(front.axis, point.value)} | "
                    f"{format_share(point.probability)}",
                )
                for front, point in zip(task.fronts, on_axes, strict=True)
            }
            rows.append(
                {**_name(cell), "constant": cell.collapsed, "score": present[0].score, **costs}
            )
    return Table(
        name="front",
        title="Pareto front: cost | probability of being on it",
        columns=(
            LABEL,
            _SCORE,
            _BASIS,
            *(Column(name=f.axis, heading=FRONT_HEADINGS[f.axis]) for f in task.fronts),
        ),
        rows=tuple(rows),
        notes=(
            "Cost, and the share of 2,000 draws (test examples, seeds, cost where its spread "
            "was measured) in which no other configuration is both as cheap and as good. The "
            "cheapest always has 100 %, however low its score. Runs that failed count as the "
            "constant answer.",
        ),
    )


COSTS: Mapping[str, tuple[str, str, Callable[[CellCost], Amount]]] = {
    "memory": ("peak in training", "peak_bytes", lambda cost: cost.memory),
    "evaluation": ("peak in evaluation", "evaluation_peak_bytes", lambda cost: cost.evaluation),
    "step": ("step, median (quartiles)", "step_seconds", lambda cost: cost.step),
    "latency": ("inference per example", "inference_seconds", lambda cost: cost.latency),
    "trained": ("trained parameters", "trained_parameters", lambda cost: cost.trained),
    "saved": ("saved", "saved_bytes", lambda cost: cost.saved),
    "energy": ("energy of a step", "step_joules", lambda cost: cost.energy),
}
"""The costs of a cell: heading, name of the column, value."""


def build_cost_table(task: TaskReport, only: Collection[str] = tuple(COSTS)) -> Table:
    """Costs of measured cells; what no cell has is a note with its reasons, and no column.

    Args:
        only: of :data:`COSTS`.
    """
    cells = task.measured_cells
    columns, absent = [LABEL], []
    for heading, name, value_of in (COSTS[key] for key in only):
        amounts = [value_of(cell.cost) for cell in cells]
        if all(amount.value is None for amount in amounts):
            reasons = "; ".join(dict.fromkeys(amount.text for amount in amounts))
            absent.append(f"{heading[:1].upper()}{heading[1:]}: {reasons}.")
        else:
            columns.append(Column(name=name, heading=heading))
    conditions = f": {task.conditions}" if task.conditions else ""
    counters = "".join(f" Memory: {counter}." for counter in task.memory_counters)
    return Table(
        name="costs",
        title="Cost",
        above="One solo measurement each, in a fresh process, unless a range is shown"
        f"{conditions}.{counters}",
        columns=tuple(columns),
        rows=tuple(
            {
                **_name(cell),
                "measurements": len(cell.costs),
                **{name: value_of(cell.cost) for _, name, value_of in COSTS.values()},
                "conditions": cell.cost.conditions,
                "counter": cell.cost.counter,
            }
            for cell in cells
        ),
        notes=tuple(absent),
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
    """Peak memory by part; None where no part of any cell was counted."""
    cells = [cell for cell in task.cells if cell.memory and cell.memory.is_counted]
    if not cells:
        return None
    most = max(cell.memory.measurements for cell in cells if cell.memory)
    basis = "One solo measurement each, in a fresh process."
    if most > 1:
        basis = f"Means over the solo measurements of a cell, {most} at most."
    return Table(
        name="bytes",
        title="Where the bytes go",
        above=f"{basis} The parts add up to the peak.",
        columns=(LABEL, *(Column(name=f"{n}_bytes", heading=h) for n, h in _PARTS.items())),
        rows=tuple(_read_memory_row(cell) for cell in cells),
        notes=tuple(_note_memory(cells)),
    )


def _read_memory_row(cell: CellReport) -> TableRow:
    memory = cell.memory
    assert memory is not None  # noqa: S101 - kept for it
    merged = "working" in dict(memory.stacked_parts)
    texts = {name: format_part(getattr(memory, name)) for name in _PARTS}
    if merged:
        texts |= {"activations": MERGED, "rest": format_bytes(memory.working or 0)}
    return {
        **_name(cell),
        "measurements": memory.measurements,
        **{f"{n}_bytes": Amount(value=getattr(memory, n), text=text) for n, text in texts.items()},
        "working_bytes": memory.working,
    }


def _note_memory(cells: Sequence[CellReport]) -> Iterable[str]:
    measured = [(cell.title, cell.memory) for cell in cells if cell.memory]
    yield (
        "Weights, gradients and optimiser states are counted tensor by tensor; activations are "
        "what one forward pass saves for its backward pass; the rest is temporary results and "
        "fragmentation."
    )
    merged = [(title, m.activations) for title, m in measured if m.stacked_parts and m.rest is None]
    if sizes := [f"{format_bytes(size)} for {title}" for title, size in merged if size is not None]:
        yield (
            f"{MERGED}: the counted forward pass saves more ({join_names(sizes)}) than there was "
            "room for under the peak, for example where a step takes its batch in several passes; "
            "activations and temporary results cannot be separated then."
        )
    if unequal := [title for title, m in measured if m.peak is not None and not m.stacked_parts]:
        yield (
            f"The parts of {join_names(unequal)} do not add up to the peak: one was not counted, "
            "or pages that were never touched are counted and not resident."
        )
    reasons: dict[str, list[str]] = {}
    for title, memory in measured:
        for name, reason in memory.missing.items():
            reasons.setdefault(f"{_PARTS[name]}: {reason}", []).append(title)
    for text, titles in reasons.items():
        yield f"Not known for {join_names(titles)}: {text}."


def build_size_table(task: TaskReport) -> Table | None:
    """Score and memory against model size; None where no models are compared."""
    if not task.size_comparison:
        return None
    sizes = {size.model: size for size in task.model_sizes}
    rows = [
        {
            **_name(cell),
            "model_parameters": Amount(
                value=sizes[cell.model].parameters,
                text=format_parameters(sizes[cell.model].parameters),
            ),
            "counted_from": sizes[cell.model].source,
            "metric": task.metric_title,
            "score": cell.score,
            "measurements": len(cell.costs),
            "peak_bytes": cell.cost.memory,
        }
        for _, cells in group_by_size(task)
        for cell in cells
        if cell.model
    ]
    return Table(
        name="sizes",
        title="Model size, score and memory",
        columns=(
            LABEL,
            Column(name="model_parameters", heading="parameters"),
            _SCORE,
            _BASIS,
            Column(name="peak_bytes", heading="peak memory in training"),
        ),
        rows=tuple(rows),
        notes=(f"{task.key}: {task.size_comparison}",),
    )


def group_by_size(task: TaskReport) -> list[tuple[str, list[CellReport]]]:
    """Scored cells of models of known size, by method, the smallest model first."""
    parameters = {size.model: size.parameters for size in task.model_sizes}
    by_method: dict[str, list[CellReport]] = {}
    for cell in task.cells:
        if cell.score and cell.model in parameters:
            by_method.setdefault(cell.label, []).append(cell)
    return [
        (name, sorted(cells, key=lambda cell: parameters[cell.model or ""]))
        for name, cells in by_method.items()
    ]


def build_rate_table(task: TaskReport) -> Table:
    """How the learning rates were chosen."""
    return Table(
        name="rates",
        title="How the learning rates were chosen",
        columns=(
            LABEL,
            Column(name="rate", heading="rate", kind="words"),
            Column(name="selection_score", heading="selection score [95 %]"),
            Column(name="selection_score", heading="n x seeds", kind="basis"),
            Column(name="folds", heading="folds"),
            Column(name="lost", heading="lost"),
            Column(name="choice", heading="chosen", kind="words"),
        ),
        rows=tuple(
            {
                **_name(cell),
                "rate": format_rate(trial.rate),
                "learning_rate": trial.rate,
                "selection_score": trial.score or _NO_SCORE,
                "folds": trial.folds,
                "lost": trial.lost,
                "chosen": trial.rate == cell.rate,
                "choice": "chosen" if trial.rate == cell.rate else "",
            }
            for cell in task.cells
            for trial in cell.tried
        ),
        notes=(
            "Selection score: mean primary score on the selection parts, with 95 % over their "
            "examples; one tuning seed, so seeds are not in it. It chooses the rate and is no "
            "result.",
        ),
    )


def build_failure_table(report: Report) -> Table:
    """What failed, of all tasks."""
    return Table(
        name="failures",
        title="What failed",
        columns=(
            Column(name="where", heading="runs of", kind="words"),
            Column(name="outcome", heading="outcome", kind="words"),
            Column(name="runs", heading="runs"),
            Column(name="said", heading="what they said", kind="words"),
        ),
        rows=tuple(
            {"where": f.where, "outcome": f.outcome, "runs": f.runs, "said": f.message}
            for f in report.failures
        ),
    )


def build_tables(report: Report) -> list[Table]:
    """The tables of all tasks that have rows, as they are written to files."""
    measures: dict[str, list[tuple[str, Table | None]]] = {}
    for task in report.tasks:
        for table in task.tables:
            measures.setdefault(table.name, []).append((task.key, list_scores(table)))

    def join(build: Callable[[TaskReport], Table | None], *notes: str) -> Table:
        return _join_tasks([(task.key, build(task)) for task in report.tasks], *notes)

    tables = (
        join(
            build_score_table,
            _INTERVALS,
            "Beside the baselines: paired on the same examples, corrected over a model's methods.",
        ),
        join(build_comparison_table, _INTERVALS),
        *(_join_tasks(of_name, _INTERVALS) for of_name in measures.values()),
        join(build_cost_table),
        join(build_memory_table),
        join(build_size_table, _INTERVALS),
        join(build_rate_table),
        build_failure_table(report),
    )
    return [table for table in tables if table.rows]


def list_scores(table: Table) -> Table:
    """A row for each score of a table of further measures."""
    scores = [column for column in table.columns if column.kind in ("value", "points")]
    return Table(
        name=table.name,
        title=table.title,
        columns=(
            LABEL,
            Column(name="metric", heading="measure", kind="words"),
            Column(name="text", heading="mean [95 %]", kind="words"),
            _BASIS,
        ),
        rows=tuple(
            {
                **{key: row.get(key) for key in ("model", "method", "label", "baseline")},
                "metric": column.heading.removesuffix(" [95 %]"),
                "text": format_value(column, row),
                "score": row[column.name],
            }
            for row in table.rows
            for column in scores
            if isinstance(row.get(column.name), Score)
        ),
        notes=(table.above, *table.notes),
    )


def _join_tasks(tables: Sequence[tuple[str, Table | None]], *notes: str) -> Table:
    """One table of all tasks, with task, model and metric in front."""
    present = [(task, table) for task, table in tables if table is not None and table.rows]
    if not present:
        return Table(name="", title="")
    names = ["task", "model", *(["metric"] if present[0][1].name == "scores" else [])]
    columns = dict.fromkeys(column for _, table in present for column in table.columns)
    rows = [{"task": task, **row} for task, table in present for row in table.rows]
    notes_of_tasks = [n for _, table in present for n in (table.above, *table.notes) if n]
    return present[0][1].model_copy(
        update={
            "columns": (*(Column(name=name, heading=name) for name in names), *columns),
            "rows": tuple(rows),
            "notes": tuple(dict.fromkeys((*notes, *notes_of_tasks))),
        }
    )
