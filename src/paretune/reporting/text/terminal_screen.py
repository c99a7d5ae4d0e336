"""The answer on one screen of a terminal: a table of methods by tasks, then three lines a task."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from paretune.reporting.document import (
    OverviewRow,
    Report,
    TaskReport,
    format_cell_score,
    list_rows,
    list_score_bases,
)
from paretune.reporting.overview import format_health
from paretune.reporting.parts import CellReport
from paretune.reporting.text.formatting import format_rank

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

    def format(self, cell: CellReport | None) -> str:
        """A score and its signs."""
        if cell is None:
            return " " * self.width
        signs = cell.signs.ljust(_SIGNS)
        rank = _format_rank(cell).rjust(self.rank) if self.rank else ""
        return f" {format_cell_score(cell).rjust(self.score)}{' ' * self.gap}{signs}{rank}"


def print_screen(report: Report, console: Console, study: str) -> None:
    """Print the first screen of a report; ``study`` is the study as the user typed it."""
    _print_heading(report, console)
    one_task = len(report.tasks) == 1
    if one_task:
        _print_task(report.tasks[0], console)
    elif report.sentence:
        _print(console, report.sentence)
    if list_rows(report.tasks):
        _print(console, "")
        _print_table(report, console)
    for task in () if one_task else report.tasks:
        _print(console, "")
        _print_task(task, console)
    if report.over_tasks:
        _print(console, "")
        _print(console, "Over all tasks", "bold")
        for line in report.over_tasks:
            for text in filter(None, (line.sentence, line.further) if line.is_main else ()):
                _print(console, f"{text}.", "", "  ")
    _print(console, "")
    _print(console, f"{format_health(report)}.", "dim")
    _print(console, "")
    methods = [cell.method for task in report.tasks for cell in task.methods]
    pair = " ".join(shlex.quote(key) for key in (*dict.fromkeys(methods), "majority")[:2])
    for title, command in (
        ("All tables:", f"report {study} --details"),
        ("A budget:  ", f"recommend {study} --max-memory 4GiB"),
        ("A pair:    ", f"compare {study} {pair}"),
    ):
        console.print(f"{title} paretune {command}", style="dim", soft_wrap=True)


def print_answer(report: Report, console: Console, remark: str) -> None:
    """Print what to take, a remark of the caller, what is in doubt, and the table."""
    _print(console, "")
    _print_heading(report, console)
    for task in report.tasks:
        _print_task(task, console)
    _print(console, f"  {remark}")
    if alarms := [f"{item.title}: {item.text}" for item in report.health if item.alarm]:
        _print(console, f"  In doubt: {'; '.join(alarms)}.", "dim")
    _print(console, "")
    _print_table(report, console)


def _print_heading(report: Report, console: Console) -> None:
    facts = ", ".join(text for _, text in report.facts)
    _print(console, f"{report.study.name}: {facts}", "bold")


def _print_table(report: Report, console: Console) -> None:
    for text, style in _format_table(report.tasks, list_rows(report.tasks), console.width):
        _print(console, text, style)
    if legend := _write_legend(report):
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
    def arrange(columns: Sequence[_Column], width: int, memory: int) -> _Layout:
        """Put the tasks into ``width`` columns, beside the methods' names."""
        parts = _split_columns(columns, width - memory)
        widest = max(sum(column.width for column in part) for part in parts)
        return _Layout(tuple(map(tuple, parts)), memory, max(0, widest + memory - width))

    def format_memory(self, text: str) -> str:
        """The text of the last column; empty without one."""
        return f" {text.rjust(self.memory - 1)}" if self.memory else ""


def _format_table(
    tasks: Sequence[TaskReport], rows: Sequence[OverviewRow], width: int
) -> Iterable[tuple[str, str]]:
    """Lines of text with their styles; tasks that do not fit side by side come below."""
    several = len({row.model for row in rows if row.memory}) > 1
    names = [_row_name(row, several) for row in rows]
    name_width = max(map(cell_len, names))
    memory = max(cell_len(text) for text in (*_MEMORY, *(row.memory for row in rows)))
    # Ranks, and a blank before the signs, where they need no further table; memory where it fits.
    places = list(enumerate(tasks))
    layouts = [
        _Layout.arrange(columns, width - name_width, memory_width)
        for memory_width in (memory + 1, 0)
        for columns in (
            [_column(task.key, [row.cells[i] for row in rows], i, gap, ranks) for i, task in places]
            for gap, ranks in ((1, True), (0, True), (1, False), (0, False))
        )
    ]
    layout = min(layouts, key=lambda layout: (layout.overflow, len(layout.parts)))
    for number, part in enumerate(layout.parts):
        if number:
            yield "", ""
        for text, heads in zip(_MEMORY, zip(*(c.heads for c in part), strict=True), strict=True):
            yield f"{' ' * name_width}{''.join(heads)}{layout.format_memory(text)}".rstrip(), "bold"
        model = ""
        for row, name in zip(rows, names, strict=True):
            if several and row.memory and row.model != model:
                model = row.model
                yield model, "bold"
            scores = "".join(column.format(row.cells[column.place]) for column in part)
            line = f"{_pad(name, name_width)}{scores}{layout.format_memory(row.memory)}"
            yield line.rstrip(), "dim" if row.baseline else ""


def _column(
    title: str, cells: Sequence[CellReport | None], place: int, gap: int, ranks: bool
) -> _Column:
    present = [cell for cell in cells if cell]
    rank = max((cell_len(_format_rank(cell)) for cell in present), default=0) if ranks else 0
    rank = 1 + max(rank, len(_RANK)) if rank else 0
    texts = [cell_len(format_cell_score(cell)) for cell in present]
    width = max([*texts, len(_SCORE), min(cell_len(title), 30) - gap - _SIGNS - rank])
    return _Column(place, title, width, gap, rank)


def _format_rank(cell: CellReport) -> str:
    return format_rank(cell.rank) if cell.rank else ""


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


def _write_legend(report: Report) -> str:
    signs = ", ".join(f"{sign} {text}" for sign, text in report.signs.items())
    bases = list_score_bases(report.tasks)
    basis = f"Score: {bases[0]}" if len(bases) == 1 else "; ".join(bases)
    parts = [part for part in (signs, basis) if part]
    return f"{'. '.join(parts)}." if parts else ""
