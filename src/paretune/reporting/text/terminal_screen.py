"""The answer on one screen of a terminal: a table of methods by tasks, then three lines a task."""

from __future__ import annotations

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


@dataclass(frozen=True)
class _Column:
    """A task's column: its place among the tasks, the width of scores, blanks before signs."""

    place: int
    title: str
    score: int
    gap: int

    @property
    def width(self) -> int:
        """Width with the blank before it."""
        return 1 + self.score + self.gap + _SIGNS

    @property
    def heads(self) -> tuple[str, str]:
        """Two heading lines, aligned with the scores."""
        behind = " " * (self.gap + _SIGNS)
        title = _shorten(self.title, self.width - 1)
        over = title.rjust(self.width) if cell_len(title) > self.score else ""
        return over or f" {title.rjust(self.score)}{behind}", f" {_SCORE.rjust(self.score)}{behind}"

    def cell(self, mark: OverviewScore | None) -> str:
        """A score and its signs."""
        if mark is None:
            return " " * self.width
        signs = mark.signs.ljust(_SIGNS)
        return f" {mark.score.rjust(self.score)}{' ' * self.gap}{signs}"


def print_screen(report: Report, console: Console, study: str) -> None:
    """Print the first screen of a report; ``study`` is the study as the user typed it."""
    overview = build_overview(report)
    facts = ", ".join(text for _, text in overview.facts)
    _print(console, f"{report.name}: {facts}", "bold")
    _print(console, f"{format_health(overview)}.", "dim")
    if overview.sentence:
        _print(console, overview.sentence)
    if overview.rows:
        _print(console, "")
        for text, style in _format_table(overview, console.width):
            _print(console, text, style)
        _print(console, _write_legend(overview), "dim")
    for task in report.tasks:
        _print(console, "")
        for place, text in enumerate(_write_lines(task)):
            _print(console, text.strip(), "" if place else "bold", "  " if place else "")
    if report.over_tasks:
        _print(console, "")
        _print(console, "Over all tasks", "bold")
        for line in list_main_lines(report.over_tasks):
            for text in filter(None, (line.sentence, line.further)):
                _print(console, f"{text}.", "", "  ")
    _print(console, "")
    _print(
        console,
        f"All tables: paretune report {study} --details\n"
        f"A budget:   paretune recommend {study} --max-memory 4GiB\n"
        f"A pair:     paretune compare {study} A B",
        "dim",
    )


def _print(console: Console, text: str, style: str = "", indent: str = "") -> None:
    from rich.text import Text

    for line in Text(text).wrap(console, console.width - len(indent)):
        console.print(Text(f"{indent}{line.plain.rstrip()}", style=style))


def _write_lines(task: TaskReport) -> Iterable[str]:
    """What to take, the chances and what is proven; then what went wrong or is missing."""
    advice = task.advice
    if advice is not None:
        yield from (*advice.lines, *advice.warnings)


def _format_table(overview: Overview, width: int) -> Iterable[tuple[str, str]]:
    """Lines of text with their styles; tasks that do not fit side by side come below."""
    several = len({row.model for row in overview.rows if row.memory}) > 1
    names = [_row_name(row, several) for row in overview.rows]
    name_width = max(map(cell_len, names))
    memory = max(cell_len(text) for text in (*_MEMORY, *(row.memory for row in overview.rows)))
    columns_width = width - name_width - memory - 1
    # A blank before the signs, unless all tasks fit into one table without it.
    spaced, close = (
        _split_columns(
            [_column(overview, i, gap) for i in range(len(overview.tasks))], columns_width
        )
        for gap in (1, 0)
    )
    for number, part in enumerate(close if len(close) < len(spaced) else spaced):
        if number:
            yield "", ""
        for text, heads in zip(_MEMORY, zip(*(c.heads for c in part), strict=True), strict=True):
            yield f"{' ' * name_width}{''.join(heads)} {text.rjust(memory)}", "bold"
        model = ""
        for row, name in zip(overview.rows, names, strict=True):
            if several and row.memory and row.model != model:
                model = row.model
                yield model, "bold"
            scores = "".join(column.cell(row.scores[column.place]) for column in part)
            line = f"{_pad(name, name_width)}{scores} {row.memory.rjust(memory)}"
            yield line.rstrip(), "dim" if row.baseline else ""


def _column(overview: Overview, place: int, gap: int) -> _Column:
    scores = [cell_len(score.score) for row in overview.rows if (score := row.scores[place])]
    title = overview.tasks[place]
    width = max([*scores, len(_SCORE), min(cell_len(title), 30) - gap - _SIGNS])
    return _Column(place, title, width, gap)


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
    return f"{'. '.join(parts)}."
