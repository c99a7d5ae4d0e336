"""Every table of a report on a terminal, with sentences; several tables where it is narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from paretune.reporting.model import Finding, Report, TaskReport
from paretune.reporting.rows import WORDS, Grid, Row
from paretune.reporting.tables.over_tasks_table import OVER_TASKS_NOTE
from paretune.reporting.tables.pareto_table import ParetoTable
from paretune.reporting.text.formatting import (
    format_failed,
    format_interval,
    format_n_by_seeds,
    format_rank,
    format_shortfall,
)
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    Column = tuple[str, Callable[[Row], str]]

VERDICT = "beside the baselines"
SHORTFALL = "below best"
FAILED = "failed"

WIDE = 170
"""Columns of a terminal that has room for quality and cost in one table."""
NARROW = 80
"""Columns below which words have no room beside numbers."""

_PADDING = (0, 1, 0, 0)
_COLUMN_GAP = 2
"""Columns of the terminal between two columns of a table: the padding and one of the box."""
_EDGES = 2
"""Columns that the box takes at the left and right."""


def print_tables(report: Report, console: Console) -> None:
    """Print every table of a report."""
    _print(console, report.name, "bold")
    _print(console, report.protocol, "dim")
    for task in report.tasks:
        _print(console, "")
        _print_task(task, console)
    if report.over_tasks:
        _print(console, "\nOver all tasks", "bold")
        for one in report.over_tasks:
            for text in filter(None, (one.sentence, one.tasks, one.further)):
                _print(console, f"  {text}.")
        _print(console, OVER_TASKS_NOTE, "dim")
    failures = [f"{f.where}: {f.outcome}, {f.runs} x. {f.message}" for f in report.failures]
    for title, lines in (
        ("Not finished", report.unfinished),
        ("Failed", failures),
        ("What the audit found in the data", [_format_finding(f) for f in report.findings]),
        ("Departures from the paper", report.departures),
        ("Notes", report.notes),
    ):
        if lines:
            _print(console, f"\n{title}", "bold")
            for line in lines:
                _print(console, f"  {line}")
    if report.tasks:
        _print(console, "\n" + _write_legend(report), "dim")


def _print(console: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    console.print(Text(text, style=style))


def _print_task(task: TaskReport, console: Console) -> None:
    models = list(dict.fromkeys(row.model for row in task.rows))
    several = len(models) > 1
    of_model = f"{models[0]} on " if len(models) == 1 else ""
    heading = f"{of_model}{task.key}: {task.metric}"
    _print(console, f"{heading}, {task.basis}" if task.basis else heading, "bold")
    if task.advice and task.has_scores:
        for text in (*task.advice.warnings, *task.advice.reasons):
            _print(console, text)
    if task.pareto:
        _print_grid(_pareto_grid(task.pareto), console, several=several)
    for sentence in task.further_sentences:
        _print(console, sentence)
    for columns in _choose_columns(console.width, several=several):
        table = _build_table(task, columns)
        if table.row_count:
            console.print(table)
    likelihood = (task.likelihood.grid,) if task.likelihood else ()
    grids = (
        *task.grids,
        task.search,
        task.search_front,
        task.shifted,
        task.forgetting,
        *likelihood,
        task.memory_table,
    )
    for grid in filter(None, grids):
        _print_grid(grid, console, several=several)


def _format_finding(finding: Finding) -> str:
    text = f"{finding.severity}: {finding.where}: {finding.what} {finding.remedy}"
    return sanitise_line(text.rstrip())


def _choose_columns(width: int, *, several: bool) -> list[list[Column]]:
    """Columns of one table, of two or of four; a single model is named in the heading only."""
    name: list[Column] = [("method", lambda r: r.method)]
    if several:
        name.insert(0, ("model", lambda r: r.model))
    quality: list[Column] = [
        ("score [95 %]", _format_row_score),
        ("rank", lambda r: format_rank(r.rank)),
        ("n x seeds", _format_row_basis),
        ("rate", lambda r: r.rate),
        (VERDICT, _format_verdict),
    ]
    limits: list[Column] = [
        (SHORTFALL, lambda r: format_shortfall(r.shortfall)),
        (FAILED, lambda r: format_failed(r.cell.failures)),
    ]
    costs: list[Column] = [
        ("peak memory", lambda r: r.cost.memory.text),
        ("step", lambda r: r.cost.step.text),
        ("trained", lambda r: r.cost.trained.text),
    ]
    if width >= WIDE:
        return [[*name, *quality, *limits, *costs]]
    if width >= NARROW:
        return [[*name, *quality], [*name, *limits, *costs]]
    return [[*name, *part] for part in (quality[:3], quality[3:], limits, costs)]


def _build_table(task: TaskReport, columns: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    quality = any(title in ("score [95 %]", VERDICT) for title, _ in columns)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, _ in columns:
        numeric = title in ("score [95 %]", "rank", "n x seeds", SHORTFALL, FAILED, "trained")
        # Words may wrap; numbers and names may not.
        justify: Literal["left", "right"] = "right" if numeric else "left"
        words_too = title in (VERDICT, "rate", "peak memory", "step")
        table.add_column(title, justify=justify, no_wrap=not words_too, overflow="fold")
    for rows in (task.rows, task.baselines):
        for row in rows:
            if _has_values(row, quality):
                style = "dim" if row.cell.baseline else _row_style(row)
                table.add_row(*(Text(write(row)) for _, write in columns), style=style)
        if rows is task.rows and table.row_count:
            table.add_section()
    return table


def _pareto_grid(pareto: ParetoTable) -> Grid:
    """Costs with the probability of being on the front."""
    rows = tuple(
        (
            line.row,
            (line.score, line.basis, *(t.replace(", on front: ", " | ") for t in line.costs)),
        )
        for line in pareto.rows
    )
    titles = ("score [95 %]", "n x seeds", *pareto.short_titles)
    title = "Pareto front: cost | probability of being on it"
    return Grid(title, "", titles, rows, (pareto.note,))


def _print_grid(grid: Grid, console: Console, *, several: bool) -> None:
    """Print a grid, split into several tables where it is too wide."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{grid.title}. {grid.above}".rstrip(), style="bold"))
    names = ["model", "method"] if several else ["method"]
    for part in _split_columns(grid, console.width, several=several):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=_PADDING)
        for title in names:
            table.add_column(title, overflow="fold")  # names give way, numbers never
        for place in part:
            words = place in grid.word_columns
            table.add_column(
                grid.titles[place], justify="left" if words else "right", no_wrap=not words
            )
        for row, texts in grid.rows:
            name = [row.model, row.method] if several else [row.method]
            style = "dim" if row.cell.baseline else ""
            table.add_row(*(Text(text) for text in [*name, *(texts[i] for i in part)]), style=style)
        console.print(table)
    for note in grid.notes:
        console.print(Text(note, style="dim"))


def _split_columns(grid: Grid, width: int, *, several: bool) -> list[list[int]]:
    """The columns of each table, as indices into the titles."""
    named = _widest("method", (row.method for row, _ in grid.rows))
    if several:
        named += _COLUMN_GAP + _widest("model", (row.model for row, _ in grid.rows))
    parts: list[list[int]] = []
    left = 0
    for place, title in enumerate(grid.titles):
        widest = _widest(title, (texts[place] for _, texts in grid.rows))
        column_width = _COLUMN_GAP + min(widest, WORDS)
        if not parts or column_width > left:
            parts.append([])
            left = width - _EDGES - named
        parts[-1].append(place)
        left -= column_width
    return parts if grid.rows else []


def _widest(title: str, texts: Iterable[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, (title, *texts)))


def _has_values(row: Row, quality: bool) -> bool:
    """A cell without any ended run is listed under "Not finished" and needs no row."""
    if quality:
        return bool(row.cell.final) or row.cell.all_trials_failed
    return bool(row.cell.cost) or row.shortfall is not None


def _format_row_score(row: Row) -> str:
    return format_interval(row.interval) if row.interval else "no score"


def _format_row_basis(row: Row) -> str:
    score = row.interval
    return format_n_by_seeds(score) if score else ""


def _format_verdict(row: Row) -> str:
    parts = [row.verdict.summary] if row.verdict else ["baseline"] if row.cell.baseline else []
    return "; ".join([*parts, *row.flags])


def _row_style(row: Row) -> str:
    if row.verdict is None:
        return ""
    return {"above": "green", "below": "red"}.get(row.verdict.standing, "")


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
    scores = [r.interval for task in report.tasks for r in task.all_rows if r.interval]
    if any(score.n_clusters or score.n_questions for score in scores):
        parts.append("n in g: examples in groups that depend on one another, resampled as a whole.")
    rows = [r for task in report.tasks for r in task.rows]
    if any(r.cell.undecided for r in rows):
        parts.append("Runner-up close: the second best rate is within one standard error.")
    if any(r.cell.edge for r in rows):
        parts.append("Lowest or highest tried: a better rate may lie beyond.")
    conditions = dict.fromkeys(t.conditions for t in report.tasks if t.conditions)
    if conditions:
        parts.append(
            "Cost: each cell alone in a fresh process, in training; one solo measurement unless a "
            f"range is shown ({'; '.join(conditions)})."
        )
    counters = dict.fromkeys(c for t in report.tasks for c in t.memory_counters)
    parts += [f"Memory: {counter}." for counter in counters]
    return " ".join(parts)
