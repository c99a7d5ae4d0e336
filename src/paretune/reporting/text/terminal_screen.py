"""The answer on one screen of a terminal: a table of methods by tasks, then three lines a task."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from paretune.reporting.model import Report, TaskReport
from paretune.reporting.overview import (
    Overview,
    OverviewRow,
    OverviewScore,
    build_overview,
    format_health,
)
from paretune.reporting.tables.over_tasks_table import list_main_lines

if TYPE_CHECKING:
    from rich.console import Console


_SIGNS = 2
"""Width of the signs after a score."""
_MEMORY = ("peak", "memory")
_SCORE = "score [95 %]"
_RANK = "rank"


@dataclass(frozen=True)
class _Column:
    """A task's column: its place among the tasks, the width of scores, blanks before signs.

    ``rank`` is the width of ranks with the blank before them; 0 where they are left out.
    """

    place: int
    title: str
    score: int
    gap: int
    rank: int = 0

    @property
    def width(self) -> int:
        """Width with the blank before it."""
        return 1 + self.score + self.gap + _SIGNS + self.rank

    @property
    def heads(self) -> tuple[str, str]:
        """Two heading lines, aligned with the scores."""
        behind = " " * (self.gap + _SIGNS)
        title = _shorten(self.title, self.width - 1)
        over = title.rjust(self.width) if cell_len(title) > self.score else ""
        ranks = _RANK.rjust(self.rank) if self.rank else ""
        return (
            over or f" {title.rjust(self.score)}{behind}{' ' * self.rank}",
            f" {_SCORE.rjust(self.score)}{behind}{ranks}",
        )

    def cell(self, mark: OverviewScore | None) -> str:
        """A score and its signs."""
        if mark is None:
            return " " * self.width
        signs = mark.signs.ljust(_SIGNS)
        rank = mark.rank.rjust(self.rank) if self.rank else ""
        return f" {mark.score.rjust(self.score)}{' ' * self.gap}{signs}{rank}"


def print_screen(report: Report, console: Console, study: str) -> None:
    """Print the first screen of a report; ``study`` is the study as the user typed it."""
    overview = build_overview(report)
    _print_heading(report, overview, console)
    one_task = len(report.tasks) == 1
    if one_task:
        _print_task(report.tasks[0], console)
    elif overview.sentence:
        _print(console, overview.sentence)
    if overview.rows:
        _print(console, "")
        _print_table(overview, console)
    for task in () if one_task else report.tasks:
        _print(console, "")
        _print_task(task, console)
    if report.over_tasks:
        _print(console, "")
        _print(console, "Over all tasks", "bold")
        for line in list_main_lines(report.over_tasks):
            for text in filter(None, (line.sentence, line.further)):
                _print(console, f"{text}.", "", "  ")
    _print(console, "")
    _print(console, f"{format_health(overview)}.", "dim")
    _print(console, "")
    methods = [row.cell.method for task in report.tasks for row in task.rows]
    pair = " ".join(shlex.quote(key) for key in (*dict.fromkeys(methods), "majority")[:2])
    for title, command in (
        ("All tables:", f"report {study} --details"),
        ("A budget:  ", f"recommend {study} --max-memory 4GiB"),
        ("A pair:    ", f"compare {study} {pair}"),
    ):
        console.print(f"{title} paretune {command}", style="dim", soft_wrap=True)


def print_answer(report: Report, console: Console, remark: str) -> None:
    """Print what to take, a remark of the caller, what is in doubt, and the table."""
    overview = build_overview(report)
    _print(console, "")
    _print_heading(report, overview, console)
    for task in report.tasks:
        _print_task(task, console)
    _print(console, f"  {remark}")
    if alarms := [f"{item.title}: {item.text}" for item in overview.health if item.alarm]:
        _print(console, f"  In doubt: {'; '.join(alarms)}.", "dim")
    _print(console, "")
    _print_table(overview, console)


def _print_heading(report: Report, overview: Overview, console: Console) -> None:
    facts = ", ".join(text for _, text in overview.facts)
    _print(console, f"{report.name}: {facts}", "bold")


def _print_table(overview: Overview, console: Console) -> None:
    for text, style in _format_table(overview, console.width):
        _print(console, text, style)
    if legend := _write_legend(overview):
        _print(console, legend, "dim")


def _print_task(task: TaskReport, console: Console) -> None:
    for place, text in enumerate(_write_lines(task)):
        _print(console, text.strip(), "" if place else "bold", "  " if place else "")


def print_headlines(report: Report, console: Console) -> None:
    """Print what to take on each task, a line each."""
    for task in report.tasks:
        for text in task.advice.lines[:1] if task.advice is not None else ():
            console.print(text, soft_wrap=True)


def _print(console: Console, text: str, style: str = "", indent: str = "") -> None:
    from rich.text import Text

    for line in Text(text).wrap(console, console.width - len(indent)):
        console.print(Text(f"{indent}{line.plain.rstrip()}", style=style))


def _write_lines(task: TaskReport) -> Iterable[str]:
    """What to take, the chances and what is proven; then what went wrong or is missing."""
    advice = task.advice
    if advice is not None:
        yield from (*advice.lines, *advice.warnings)


@dataclass(frozen=True)
class _Layout:
    """Which tasks stand side by side; tasks that do not fit come below.

    Attributes:
        memory: width of the memory column with the blank before it; 0 without one.
        overflow: columns of the widest part that the terminal does not have.
    """

    parts: tuple[tuple[_Column, ...], ...]
    memory: int
    overflow: int

    @staticmethod
    def arrange(overview: Overview, width: int, gap: int, ranks: bool, memory: int) -> _Layout:
        """Put the tasks into ``width`` columns, beside the methods' names."""
        columns = [_column(overview, i, gap, ranks) for i in range(len(overview.tasks))]
        parts = _split_columns(columns, width - memory)
        widest = max(sum(column.width for column in part) for part in parts)
        return _Layout(tuple(map(tuple, parts)), memory, max(0, widest + memory - width))

    def format_memory(self, text: str) -> str:
        """The text of the last column; empty without one."""
        return f" {text.rjust(self.memory - 1)}" if self.memory else ""


def _format_table(overview: Overview, width: int) -> Iterable[tuple[str, str]]:
    """Lines of text with their styles; tasks that do not fit side by side come below."""
    several = len({row.model for row in overview.rows if row.memory}) > 1
    names = [_row_name(row, several) for row in overview.rows]
    name_width = max(map(cell_len, names))
    memory = max(cell_len(text) for text in (*_MEMORY, *(row.memory for row in overview.rows)))
    # Ranks, and a blank before the signs, where they need no further table; memory where it fits.
    layouts = [
        _Layout.arrange(overview, width - name_width, gap, ranks, memory_width)
        for memory_width in (memory + 1, 0)
        for gap, ranks in ((1, True), (0, True), (1, False), (0, False))
    ]
    layout = min(layouts, key=lambda one: (one.overflow, len(one.parts)))
    for number, part in enumerate(layout.parts):
        if number:
            yield "", ""
        for text, heads in zip(_MEMORY, zip(*(c.heads for c in part), strict=True), strict=True):
            yield f"{' ' * name_width}{''.join(heads)}{layout.format_memory(text)}".rstrip(), "bold"
        model = ""
        for row, name in zip(overview.rows, names, strict=True):
            if several and row.memory and row.model != model:
                model = row.model
                yield model, "bold"
            scores = "".join(column.cell(row.scores[column.place]) for column in part)
            line = f"{_pad(name, name_width)}{scores}{layout.format_memory(row.memory)}"
            yield line.rstrip(), "dim" if row.baseline else ""


def _column(overview: Overview, place: int, gap: int, ranks: bool) -> _Column:
    scores = [score for row in overview.rows if (score := row.scores[place])]
    title = overview.tasks[place]
    rank = max((cell_len(score.rank) for score in scores), default=0) if ranks else 0
    rank = 1 + max(rank, len(_RANK)) if rank else 0
    texts = [cell_len(score.score) for score in scores]
    width = max([*texts, len(_SCORE), min(cell_len(title), 30) - gap - _SIGNS - rank])
    return _Column(place, title, width, gap, rank)


def _split_columns(columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    parts: list[list[_Column]] = []
    left = 0
    for column in columns:
        if not parts or column.width > left:
            parts.append([])
            left = width
        parts[-1].append(column)
        left -= column.width
    return parts


def _row_name(row: OverviewRow, several: bool) -> str:
    return f"  {row.method}" if several and row.memory else row.method


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _shorten(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{text[: width - 1]}…"


def _write_legend(overview: Overview) -> str:
    parts = [", ".join(f"{sign} {text}" for sign, text in overview.signs)] if overview.signs else []
    if len(overview.score_bases) == 1:
        parts.append(f"Score: {overview.score_bases[0]}")
    elif overview.score_bases:
        parts.append("; ".join(overview.score_bases))
    return f"{'. '.join(parts)}." if parts else ""
