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

if TYPE_CHECKING:
    from rich.console import Console


_SIGNS = 2
"""Columns behind a score."""
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
        """With the blank that parts it from what stands before."""
        return 1 + self.score + self.gap + _SIGNS

    @property
    def heads(self) -> tuple[str, str]:
        """Two lines, right above the scores."""
        behind = " " * (self.gap + _SIGNS)
        title = _cut(self.title, self.width - 1)
        over = title.rjust(self.width) if cell_len(title) > self.score else ""
        return over or f" {title.rjust(self.score)}{behind}", f" {_SCORE.rjust(self.score)}{behind}"

    def cell(self, mark: OverviewScore | None) -> str:
        """A score and its signs."""
        if mark is None:
            return " " * self.width
        signs = mark.signs.ljust(_SIGNS)
        return f" {mark.score.rjust(self.score)}{' ' * self.gap}{signs}"


def print_screen(report: Report, console: Console, study: str) -> None:
    """Print the first screen of a report; ``study`` is how the user calls the study."""
    from rich.text import Text

    def say(text: str, style: str = "", indent: str = "") -> None:
        for line in Text(text).wrap(console, console.width - len(indent)):
            console.print(Text(f"{indent}{line.plain.rstrip()}", style=style))

    found = build_overview(report)
    say(f"{report.name}: {', '.join(text for _, text in found.facts)}", "bold")
    say(f"{format_health(found)}.", "dim")
    if found.sentence:
        say(found.sentence)
    if found.rows:
        say("")
        for text, style in _table(found, console.width):
            say(text, style)
        say(_legend(found), "dim")
    for task in report.tasks:
        say("")
        for place, text in enumerate(_lines(task)):
            say(text, "" if place else "bold", "  " if place else "")
    say("")
    say(
        f"All tables: paretune report {study} --details\n"
        f"A budget:   paretune recommend {study} --max-memory 4GiB\n"
        f"A pair:     paretune compare {study} A B",
        "dim",
    )


def _lines(task: TaskReport) -> Iterable[str]:
    """What to take, why, and what would change it; what was not learned before them."""
    advice = task.advice
    if advice is None:
        return
    first = f"{advice.headline}." if advice.take else advice.reasons[0]
    yield from (first, *advice.warnings, *advice.reasons[1:], *advice.changes[:1])


def _table(found: Overview, width: int) -> Iterable[tuple[str, str]]:
    """Lines of text with their styles; tasks that do not fit beside others come below them."""
    models = list(dict.fromkeys(line.model for line in found.rows if line.memory))
    several = len(models) > 1
    names = [_name(line, several) for line in found.rows]
    first = max(map(cell_len, names))
    memory = max(cell_len(text) for text in (*_MEMORY, *(line.memory for line in found.rows)))
    room = width - first - memory - 1
    # A blank before the signs, unless all tasks fit into one table without it.
    columns = [_column(found, place, 1) for place in range(len(found.tasks))]
    close = [_column(found, place, 0) for place in range(len(found.tasks))]
    if len(_that_fit(close, room)) < len(_that_fit(columns, room)):
        columns = close
    for number, part in enumerate(_that_fit(columns, room)):
        if number:
            yield "", ""
        for text, heads in zip(_MEMORY, zip(*(c.heads for c in part), strict=True), strict=True):
            yield f"{' ' * first}{''.join(heads)} {text.rjust(memory)}", "bold"
        before = ""
        for line, name in zip(found.rows, names, strict=True):
            if several and line.memory and line.model != before:
                before = line.model
                yield line.model, "bold"
            marks = "".join(column.cell(line.scores[column.place]) for column in part)
            shown = f"{_padded(name, first)}{marks} {line.memory.rjust(memory)}"
            yield shown.rstrip(), "dim" if line.baseline else ""


def _column(found: Overview, place: int, gap: int) -> _Column:
    scores = [cell_len(mark.score) for line in found.rows if (mark := line.scores[place])]
    title = found.tasks[place]
    score = max([*scores, len(_SCORE), min(cell_len(title), 30) - gap - _SIGNS])
    return _Column(place, title, score, gap)


def _that_fit(columns: Sequence[_Column], room: int) -> list[list[_Column]]:
    parts: list[list[_Column]] = []
    left = 0
    for column in columns:
        if not parts or column.width > left:
            parts.append([])
            left = room
        parts[-1].append(column)
        left -= column.width
    return parts


def _name(line: OverviewRow, several: bool) -> str:
    return f"  {line.method}" if several and line.memory else line.method


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{text[: width - 1]}…"


def _legend(found: Overview) -> str:
    said = [", ".join(f"{sign} {text}" for sign, text in found.signs)] if found.signs else []
    if len(found.score_bases) == 1:
        said.append(f"Score: {found.score_bases[0]}")
    elif found.score_bases:
        said.append("; ".join(found.score_bases))
    return f"{'. '.join(said)}."
