"""Every table of a report on a terminal, with sentences; two tables where it is narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from paretune.reporting.build import Finding, Report, Row, TaskReport
from paretune.reporting.tables.memory_breakdown import build_memory_grid
from paretune.reporting.text.formatting import format_interval, format_rank, format_units
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from paretune.reporting.figures.pareto import ParetoTable
    from paretune.reporting.tables.translation import Grid

    Column = tuple[str, Callable[[Row], str]]

VERDICT = "beside the baselines"

WIDE = 170
"""Columns of a terminal that takes quality and cost in one table."""

_PADDING = (0, 1, 0, 0)
_APART = 2
"""What parts columns with it: one column more is the box's."""
_EDGES = 2
"""Columns that the box takes left and right."""


def print_tables(report: Report, console: Console) -> None:
    """Print every table of a report."""
    from rich.text import Text

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style))

    say(f"{report.name}", "bold")
    say(report.protocol, "dim")
    for task in report.tasks:
        say("")
        models = dict.fromkeys(row.model for row in task.rows)
        alone = f"{next(iter(models))} on " if len(models) == 1 else ""
        heading = f"{alone}{task.key}: {task.metric}"
        say(f"{heading}, {task.basis}" if task.basis else heading, "bold")
        if task.advice and task.has_advice:
            for text in (*task.advice.warnings, *task.advice.reasons):
                say(text)
        if task.front:
            _front(task.front, console, several=len(models) > 1)
        for sentence in task.further_sentences:
            say(sentence)
        for columns in _layouts(console.width, several=len(models) > 1):
            table = _table(task, columns)
            if table.row_count:
                console.print(table)
        for grid in filter(None, (*task.grids, build_memory_grid(task.measured_rows))):
            _grid(grid, console, several=len(models) > 1)
    for title, lines in (
        ("Not finished", report.unfinished),
        ("Failed", [f"{f.where}: {f.outcome}, {f.runs} x. {f.said}" for f in report.failures]),
        ("What the audit found in the data", [_finding(f) for f in report.findings]),
        ("Departures from the paper", report.departures),
        ("Notes", report.notes),
    ):
        if lines:
            say(f"\n{title}", "bold")
            for line in lines:
                say(f"  {line}")
    if report.tasks:
        say("\n" + _legend(report), "dim")


def _finding(found: Finding) -> str:
    return sanitise_line(f"{found.severity}: {found.where}: {found.what} {found.remedy}".rstrip())


def _layouts(width: int, *, several: bool) -> list[list[Column]]:
    """Columns of one table, or of two; a model that stands alone is told in the heading."""
    name: list[Column] = [("method", lambda r: r.method)]
    if several:
        name.insert(0, ("model", lambda r: r.model))
    quality: list[Column] = [
        ("score [95 %]", _score),
        ("rank", lambda r: format_rank(r.rank)),
        ("n x seeds", _basis),
        ("rate", lambda r: r.rate),
        (VERDICT, _verdict),
    ]
    costs: list[Column] = [
        ("peak memory", lambda r: r.cost.memory.text),
        ("step", lambda r: r.cost.step.text),
        ("trained", lambda r: r.cost.trained.text),
    ]
    if width >= WIDE:
        return [[*name, *quality, *costs]]
    return [[*name, *quality], [*name, *costs]]


def _table(task: TaskReport, columns: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    quality = any(title.startswith("score") for title, _ in columns)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, _ in columns:
        numeric = title in ("score [95 %]", "rank", "n x seeds", "trained")
        # Words may wrap; numbers and names may not.
        justify: Literal["left", "right"] = "right" if numeric else "left"
        words_too = title in (VERDICT, "rate", "peak memory", "step")
        table.add_column(title, justify=justify, no_wrap=not words_too, overflow="fold")
    for rows in (task.rows, task.baselines):
        for row in rows:
            if _shown(row, quality):
                style = "dim" if row.cell.baseline else _style(row)
                table.add_row(*(Text(write(row)) for _, write in columns), style=style)
        if rows is task.rows and table.row_count:
            table.add_section()
    return table


def _front(front: ParetoTable, console: Console, *, several: bool) -> None:
    """Costs with the probability of being on the front, as a grid."""
    from paretune.reporting.tables.translation import Grid

    rows = tuple(
        (row, (score, basis, *(text.replace(", on front: ", " | ") for text in texts)))
        for row, score, basis, texts in front.rows
    )
    titles = ("score [95 %]", "n x seeds", *front.short)
    title = "Pareto front: cost | probability of being on it"
    _grid(Grid(title, "", titles, rows, (front.note,)), console, several=several)


def _grid(grid: Grid, console: Console, *, several: bool) -> None:
    """A further table of a translation, cut into several where it is too wide."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{grid.title}. {grid.above}".rstrip(), style="bold"))
    names = ["model", "method"] if several else ["method"]
    for part in _that_fit(grid, console.width, several=several):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=_PADDING)
        for title in names:
            table.add_column(title, overflow="fold")  # names give way, numbers never
        for place in part:
            table.add_column(grid.titles[place], justify="right", no_wrap=True)
        for row, texts in grid.rows:
            name = [row.model, row.method] if several else [row.method]
            style = "dim" if row.cell.baseline else ""
            table.add_row(*(Text(text) for text in [*name, *(texts[i] for i in part)]), style=style)
        console.print(table)
    for note in grid.notes:
        console.print(Text(note, style="dim"))


def _that_fit(grid: Grid, width: int, *, several: bool) -> list[list[int]]:
    """The columns of each table, by their places."""
    from rich.cells import cell_len

    def widest(title: str, texts: Iterable[str]) -> int:
        return max(map(cell_len, (title, *texts)))

    named = widest("method", (row.method for row, _ in grid.rows))
    if several:
        named += _APART + widest("model", (row.model for row, _ in grid.rows))
    parts: list[list[int]] = []
    left = 0
    for place, title in enumerate(grid.titles):
        needed = _APART + widest(title, (texts[place] for _, texts in grid.rows))
        if not parts or needed > left:
            parts.append([])
            left = width - _EDGES - named
        parts[-1].append(place)
        left -= needed
    return parts if grid.rows else []


def _shown(row: Row, quality: bool) -> bool:
    """A cell without any ended run is told under "Not finished" and needs no row."""
    if quality:
        return bool(row.cell.final) or row.cell.all_trials_failed
    return bool(row.cell.cost)


def _score(row: Row) -> str:
    return format_interval(row.cell.interval) if row.cell.interval else "no score"


def _basis(row: Row) -> str:
    found = row.cell.interval
    return f"{format_units(found)} x {found.n_seeds}" if found else ""


def _verdict(row: Row) -> str:
    said = [row.verdict.summary] if row.verdict else ["baseline"] if row.cell.baseline else []
    return "; ".join([*said, *row.flags])


def _style(row: Row) -> str:
    if row.verdict is None:
        return ""
    return {"above": "green", "below": "red"}.get(row.verdict.standing, "")


def _legend(report: Report) -> str:
    said = [
        "Intervals: 95 %, over seeds and test examples; n x seeds: 80 x 3 is 80 test examples, 3 "
        "seeds.",
        "Beside the baselines: paired on the same examples, corrected over the baselines of a row "
        "(Holm), not over rows.",
        "Rank: with 95 % confidence all true ranks lie in these ranges (all pairs of a model's "
        "methods, Holm); baselines have none.",
        "`paretune recommend STUDY` weighs a budget and says what would change the choice.",
    ]
    every = [r.cell.interval for task in report.tasks for r in task.all_rows if r.cell.interval]
    if any(found.n_clusters or found.n_questions for found in every):
        said.append("n in g: examples in groups that depend on one another, resampled as a whole.")
    rows = [r for task in report.tasks for r in task.rows]
    if any(r.cell.undecided for r in rows):
        said.append("Runner-up close: the second best rate is within one standard error.")
    if any(r.cell.edge for r in rows):
        said.append("Lowest or highest tried: a better rate may lie beyond.")
    conditions = dict.fromkeys(t.conditions for t in report.tasks if t.conditions)
    if conditions:
        said.append(
            "Cost: each cell alone in a fresh process, in training; one solo measurement unless a "
            f"range is shown ({'; '.join(conditions)})."
        )
    counters = dict.fromkeys(c for t in report.tasks for c in t.memory_counters)
    said += [f"Memory: {counter}." for counter in counters]
    return " ".join(said)
