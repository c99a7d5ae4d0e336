"""Every table of a report on a terminal, with sentences; several tables where it is narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from paretune.reporting.document import DataFinding, Report, TaskReport
from paretune.reporting.parts import Table
from paretune.reporting.tables import (
    OVER_TASKS_NOTE,
    WORDS,
    build_cost_table,
    build_front_table,
    build_memory_table,
    build_score_table,
    find_word_columns,
    format_rows,
    hide_details,
)
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from rich.console import Console

_PADDING = (0, 1, 0, 0)
_COLUMN_GAP = 2
"""Columns of the terminal between two columns of a table: the padding and one of the box."""
_EDGES = 2
"""Columns that the box takes at the left and right."""
_STYLES = {"above": "green", "below": "red"}
"""Of rows by their standing beside the baselines."""


def print_tables(report: Report, console: Console) -> None:
    """Print every table of a report."""
    _print(console, report.study.name, "bold")
    _print(console, report.study.protocol, "dim")
    for task in report.tasks:
        _print(console, "")
        _print_task(task, console)
    if report.over_tasks:
        _print(console, "\nOver all tasks", "bold")
        for line in report.over_tasks:
            for text in filter(None, (line.sentence, line.by_task, line.further)):
                _print(console, f"  {text}.")
        _print(console, OVER_TASKS_NOTE, "dim")
    failures = [f"{f.where}: {f.outcome}, {f.runs} x. {f.message}" for f in report.failures]
    for title, lines in (
        ("Not finished", report.unfinished),
        ("Failed", failures),
        ("What the audit found in the data", [_format_finding(f) for f in report.findings]),
        ("Departures from the paper", report.study.departures),
        ("Notes", report.notes),
    ):
        if lines:
            _print(console, f"\n{title}", "bold")
            for text in lines:
                _print(console, f"  {text}")
    if report.tasks:
        _print(console, "\n" + _write_legend(report), "dim")


def _print(console: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    console.print(Text(text, style=style))


def _print_task(task: TaskReport, console: Console) -> None:
    models = list(dict.fromkeys(cell.model_label for cell in task.methods))
    several = len(models) > 1
    of_model = f"{models[0]} on " if len(models) == 1 else ""
    heading = f"{of_model}{task.key}: {task.metric_title}"
    _print(console, f"{heading}, {task.basis}" if task.basis else heading, "bold")
    if task.advice and task.has_scores:
        for text in (*task.advice.warnings, *task.advice.reasons):
            _print(console, text)
    if front := build_front_table(task):
        _print_table(front, console, several=several)
    for sentence in task.further_sentences:
        _print(console, sentence)
    further = [table for table in task.tables if table.name != "predictions"]
    tables = (
        hide_details(build_score_table(task)),
        build_cost_table(task),
        *further,
        build_memory_table(task),
    )
    for table in tables:
        if table and (table.rows or table in further):
            _print_table(table, console, several=several)


def _format_finding(finding: DataFinding) -> str:
    text = f"{finding.severity}: {finding.where}: {finding.what} {finding.remedy}"
    return sanitise_line(text.rstrip())


def _print_table(table: Table, console: Console, *, several: bool) -> None:
    """Print a table, split into several where it is too wide; a single model is not named."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    console.print(Text(f"{table.title}. {table.above}".rstrip(), style="bold"))
    texts, words = format_rows(table), find_word_columns(table)
    models = [str(row.get("model") or "-") for row in table.rows]
    for part in _split_columns(table, texts, models if several else [], console.width):
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=_PADDING)
        names = ["model", "method"] if several else ["method"]
        for heading in names:
            grid.add_column(heading, overflow="fold")  # names give way, numbers never
        for place in part:
            is_words = place in words or table.columns[place].kind == "words"
            grid.add_column(
                table.columns[place].heading,
                justify="left" if is_words else "right",
                no_wrap=place not in words,
            )
        for row, model, line in zip(table.rows, models, texts, strict=True):
            style = (
                "dim" if row.get("baseline") else _STYLES.get(str(row.get("verdict_standing")), "")
            )
            cells = [*([model] if several else []), line[0], *(line[place] for place in part)]
            grid.add_row(*map(Text, cells), style=style)
        console.print(grid)
    for note in table.notes:
        console.print(Text(note, style="dim"))


def _split_columns(
    table: Table, texts: Sequence[Sequence[str]], models: Sequence[str], width: int
) -> list[list[int]]:
    """The columns of each part behind the names, by their place."""
    if not table.rows:
        return []
    named = _measure_widest("method", (line[0] for line in texts))
    if models:
        named += _COLUMN_GAP + _measure_widest("model", models)
    parts: list[list[int]] = []
    left = 0
    for place, column in enumerate(table.columns[1:], 1):
        widest = _measure_widest(column.heading, (line[place] for line in texts))
        column_width = _COLUMN_GAP + min(widest, WORDS)
        if not parts or column_width > left:
            parts.append([])
            left = width - _EDGES - named
        parts[-1].append(place)
        left -= column_width
    return parts


def _measure_widest(heading: str, texts: Iterable[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, (heading, *texts)))


def _write_legend(report: Report) -> str:
    parts = [
        "Intervals: 95 %, over seeds and test examples; n x seeds: 80 x 3 is 80 test examples, 3 "
        "seeds; 306, 5 folds: every one of 306 rows is tested, in outer cross-validation.",
        "Beside the baselines: paired on the same examples, corrected over the baselines of a row "
        "(Holm), not over rows.",
        "Rank: with 95 % confidence all true ranks lie in these ranges (all pairs of a model's "
        "methods, Holm); baselines have none.",
        "`paretune recommend STUDY` weighs a budget and says what would change the choice.",
    ]
    scores = [c.score for task in report.tasks for c in task.cells if c.score]
    if any(score.n_clusters or score.n_questions for score in scores):
        parts.append("n in g: examples in groups that depend on one another, resampled as a whole.")
    methods = [cell for task in report.tasks for cell in task.methods]
    if any(cell.rate_undecided for cell in methods):
        parts.append("Runner-up close: the second best rate is within one standard error.")
    if any(cell.rate_edge for cell in methods):
        parts.append("Lowest or highest tried: a better rate may lie beyond.")
    return " ".join(parts)
