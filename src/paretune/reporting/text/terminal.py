"""A report on a terminal: the answer on one screen, or every table.

Tables that are wider than the terminal are split into several.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.table import Table as Grid
from rich.text import Text

from paretune.reporting.document import (
    FINAL_RUNS,
    Document,
    TaskReport,
    format_cell_score,
    list_rows,
    list_score_bases,
)
from paretune.reporting.parts import CellReport
from paretune.reporting.table import Table
from paretune.reporting.tables import (
    WORDS,
    build_cost_table,
    build_failure_table,
    build_front_table,
    build_memory_table,
    build_over_tasks_table,
    build_score_table,
    find_word_columns,
)
from paretune.reporting.text.formatting import format_rank, join_names
from paretune.study import UNNAMED_MODEL

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


_FINDINGS = {True: "How the files were read", False: "What the audit found in the data"}
_COLUMN_GAP = 2
"""Columns of the terminal between two columns of a table: the padding and one of the box."""
_EDGES = 2
"""Columns that the box takes at the left and right."""
_STYLES = {"above": "green", "below": "red"}
"""Styles of rows by their standing beside the baselines."""
_SIGNS = 2
"""Width of the signs after a score."""


def print_screen(report: Document, console: Console, study: str) -> None:
    """Print the first screen of a report; ``study`` is the study as the user typed it."""
    _print_heading(report, console)
    one_task = len(report.tasks) == 1
    if one_task:
        _print_advice(report.tasks[0], console)
    elif report.sentence:
        _print(console, report.sentence)
    _print_overview(report, console)
    if report.labelled_rows:
        _print(console)
        _print(console, report.labelled_rows.sentence)
        console.print(TableLayout(report.labelled_rows.least))
    for task in () if one_task else report.tasks:
        _print(console)
        _print_advice(task, console, details=False)
    if report.over_tasks:
        _print(console, "\nOver all tasks", "bold")
        main = [line for line in report.over_tasks if line.is_main]
        withheld = Counter(filter(None, (line.comparison.withheld for line in main)))
        for line in main:
            if withheld[line.comparison.withheld] < 2:
                for text in filter(None, (line.sentence, line.further)):
                    _print(console, f"{text}.", indent="  ")
        for reason, count in withheld.items():
            if count > 1:
                _print(console, f"{count} comparisons are undecided: {reason}.", indent="  ")
    # The health in one line; what has no alarm is merged.
    ends = [item for item in report.health if item.title.endswith(FINAL_RUNS)]
    fine = [item for item in ends if not item.alarm]
    health = [f"{item.title}: {item.text}" for item in report.health if item not in fine]
    if fine:
        ended = join_names([item.title.removesuffix(FINAL_RUNS) for item in fine], "or")
        health.insert(1, f"{ended}{FINAL_RUNS}: none of {fine[0].text.split()[-1]}")
    _print(console, f"\n{_join_clauses(health)}.\n", "dim")
    methods = [cell.method for task in report.tasks for cell in task.methods]
    pair = " ".join(shlex.quote(key) for key in (*dict.fromkeys(methods), "majority")[:2])
    commands = {
        "All tables:": f"report {study} --details",
        "A budget:  ": f"recommend {study} --max-memory 4GiB",
        "A pair:    ": f"compare {study} {pair}",
    }
    if report.study.judged:
        commands = {"All tables:": f"judge {study} --details"}
    for title, command in commands.items():
        console.print(f"{title} paretune {command}", style="dim", soft_wrap=True)


def _join_clauses(clauses: Sequence[str]) -> str:
    """Join clauses into a sentence without its full stop."""
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}"


def print_answer(report: Document, console: Console, remark: str) -> None:
    """Print what to take, a remark of the caller, what is in doubt, and the table."""
    _print(console)
    _print_heading(report, console)
    for task in report.tasks:
        _print_advice(task, console)
    _print(console, f"  {remark}")
    if alarms := [f"{item.title}: {item.text}" for item in report.health if item.alarm]:
        _print(console, f"{_join_clauses(alarms)}.", "dim", "  ")
    _print_overview(report, console)


def print_headlines(report: Document, console: Console) -> None:
    """Print what to take on each task, a line each."""
    if report.study.scope:
        console.print(report.study.scope, soft_wrap=True)
    for task in report.tasks:
        for text in task.advice.lines[:1] if task.advice is not None else ():
            console.print(text, soft_wrap=True)


def print_tables(report: Document, console: Console) -> None:
    """Print every table of a report."""
    if report.study.scope:
        _print(console, report.study.scope)
    _print(console, report.study.title or report.study.name, "bold")
    _print(console, report.study.protocol, "dim")
    for task in report.tasks:
        _print(console)
        _print_task(task, console)
    rows = report.labelled_rows
    for table in (
        build_over_tasks_table(report.over_tasks),
        *((rows.differences, rows.scores) if rows else ()),
        build_failure_table(report),
    ):
        if table.rows:
            _print(console)
            console.print(TableLayout(table))
    findings = [f"{f.severity}: {f.where}: {f.what} {f.remedy}".rstrip() for f in report.findings]
    for title, lines in (
        ("Not finished", report.unfinished),
        (_FINDINGS[report.study.judged], findings),
        ("Departures from the paper", report.study.departures),
        ("Notes", report.notes),
    ):
        if lines:
            _print(console, f"\n{title}", "bold")
            for text in lines:
                _print(console, text, indent="  ")
    if not report.tasks:
        return
    # What the columns and marks mean.
    parts = [
        "Intervals: 95 %, over seeds and test examples; n x seeds: 80 x 3 is 80 test examples, 3 "
        "seeds; 306, 5 folds: every one of 306 rows is tested, in outer cross-validation.",
        "Beside the baselines: paired on the same examples, corrected over the baselines of a row "
        "(Holm), not over rows.",
        "Rank: with 95 % confidence all true ranks lie in these ranges (all pairs of a model's "
        "methods, Holm); baselines have none.",
    ]
    if any(task.rival != "baseline" for task in report.tasks):
        parts[1] = "Each beside all others: paired on the same examples, corrected over all pairs."
    if report.study.scope:
        parts[0] = (
            "Intervals: 95 %, over test examples; n x seeds: 80 x 1 is 80 test examples, 1 run."
        )
    if not report.study.judged:
        remark = "`paretune recommend STUDY` weighs a budget and says what would change the choice."
        parts.append(remark)
    scores = [cell.score for task in report.tasks for cell in task.cells if cell.score]
    if any(score.n_clusters or score.n_questions for score in scores):
        parts.append("n in g: examples in groups that depend on one another, counted as a whole.")
    methods = [cell for task in report.tasks for cell in task.methods]
    if any(cell.rate_undecided for cell in methods):
        parts.append("Runner-up close: the second best rate is within one standard error.")
    if any(cell.rate_edge for cell in methods):
        parts.append("Lowest or highest tried: a better rate may lie beyond.")
    _print(console, "\n" + " ".join(parts), "dim")


def _print(console: Console, text: str = "", style: str = "", indent: str = "") -> None:
    for line in Text(text).wrap(console, console.width - len(indent)) or [Text()]:
        console.print(Text(f"{indent}{line.plain.rstrip()}", style=style))


def _print_heading(report: Document, console: Console) -> None:
    if report.study.scope:
        _print(console, report.study.scope)
    if report.study.title:
        _print(console, report.study.title, "bold")
    facts = [text for _, text in report.facts]
    _print(console, ": ".join([report.study.name, *filter(None, [", ".join(facts)])]), "bold")


def _print_advice(task: TaskReport, console: Console, *, details: bool = True) -> None:
    """What to take, the chances and what is proven; what went wrong; with details what may help."""
    lines = task.advice.lines if task.advice else ()
    warnings = task.advice.list_details("warning") if task.advice else ()
    for place, text in enumerate((*lines, *(warning.text for warning in warnings))):
        _print(console, text.strip(), "" if place else "bold", "  " if place else "")
    for step in task.next_steps.steps[:3] if task.next_steps and details else ():
        if step.points is not None and step.points > 0:
            _print(console, step.text, "dim", "  ")


def _print_overview(report: Document, console: Console) -> None:
    """Print the table of methods by tasks; tasks that do not fit side by side come below."""
    rows = list_rows(report.tasks)
    if not rows:
        return
    several = len({row.model for row in rows if row.has_model}) > 1
    names = [f"  {row.method}" if several and row.has_model else row.method for row in rows]
    # The last column; without it where it does not fit, or nothing is known.
    ends: list[list[str] | None] = [None]
    if any(row.memory for row in rows):
        ends.insert(0, _align_right("peak", "memory", *(row.memory for row in rows)))
    name_width = max(map(cell_len, names))
    layouts = []
    # Ranks, and a blank before the signs, where they need no further table; memory where it fits.
    for last, ranks, gap in product(ends, (True, False), (1, 0)):
        columns = [
            _lay_out_scores(task.key, [row.cells[place] for row in rows], gap, ranks)
            for place, task in enumerate(report.tasks)
        ]
        widths = [1 + cell_len(column[0]) for column in columns]
        room = console.width - name_width - (1 + len(last[0]) if last else 0)
        parts = _split_columns(widths, room)
        overflow = max(max(sum(widths[place] for place in part) - room for part in parts), 0)
        layouts.append(
            ((overflow, len(parts)), [[columns[place] for place in part] for part in parts], last)
        )
    _, tables, last = min(layouts, key=lambda layout: layout[0])
    for table in tables:
        _print(console)
        columns = [*table, last] if last else table
        lines = [f" {' '.join(texts)}" for texts in zip(*columns, strict=True)]
        for line in lines[:2]:
            _print(console, " " * name_width + line, "bold")
        model = ""
        for row, name, line in zip(rows, names, lines[2:], strict=True):
            if several and row.has_model and row.model != model:
                model = row.model
                _print(console, model, "bold")
            style = "dim" if row.baseline else ""
            _print(console, set_cell_size(name, name_width) + line, style)
    signs = ", ".join(f"{sign} {text}" for sign, text in report.signs.items())
    bases = list_score_bases(report.tasks)
    basis = f"Score: {bases[0]}" if len(bases) == 1 else "; ".join(bases)
    if legend := ". ".join(part for part in (signs, basis) if part):
        _print(console, f"{legend}.", "dim")


def _align_right(*texts: str) -> list[str]:
    width = max(map(cell_len, texts))
    return [" " * (width - cell_len(text)) + text for text in texts]


def _lay_out_scores(
    title: str, cells: Sequence[CellReport | None], gap: int, ranks: bool
) -> list[str]:
    """Lay out the column of a task: two headings, then scores with their signs, in one width.

    Args:
        title: the title of the task.
        cells: a cell for each row; None where the method has not ended on the task.
        gap: blanks between a score and its signs.
        ranks: whether ranks follow the signs, where any cell has one.
    """
    scores = _align_right("score [95 %]", *(format_cell_score(c) if c else "" for c in cells))
    signs = [" " * gap + (cell.signs if cell else "").ljust(_SIGNS) for cell in (None, *cells)]
    present = [format_rank(cell.rank) if cell and cell.rank else "" for cell in cells]
    if ranks and any(present):
        behind = [f"{a} {b}" for a, b in zip(signs, _align_right("rank", *present), strict=True)]
    else:
        behind = signs
    lines = [score + text for score, text in zip(scores, behind, strict=True)]
    width = max(len(lines[0]), min(cell_len(title), 30))
    if cell_len(title) > width:
        title = set_cell_size(title, width - 1).rstrip() + "…"
    blanks = width - cell_len(title)
    # Above the scores where it fits.
    right = min(blanks, len(behind[0])) if cell_len(title) <= len(scores[0]) else 0
    heading = " " * (blanks - right) + title + " " * right
    return [heading, *(" " * (width - len(line)) + line for line in lines)]


def _split_columns(widths: Sequence[int], room: int) -> list[list[int]]:
    """Split the places of columns into parts that fit side by side, at least one in each."""
    parts: list[list[int]] = []
    left = 0
    for place, width in enumerate(widths):
        if not parts or width > left:
            parts.append([])
            left = room
        parts[-1].append(place)
        left -= width
    return parts


def _print_task(task: TaskReport, console: Console) -> None:
    models = list(dict.fromkeys(cell.model_label for cell in task.methods))
    several = len(models) > 1
    is_named = len(models) == 1 and models != [UNNAMED_MODEL.key]
    of_model = f"{models[0]} on " if is_named else ""
    heading = f"{of_model}{task.key}: {task.metric_title}"
    _print(console, f"{heading}, {task.basis}" if task.basis else heading, "bold")
    if task.advice:
        warnings = task.advice.list_details("warning")
        reasons = [s for s in task.advice.details if s.about not in ("warning", "change")]
        for part in (*warnings, task.advice.lead, *reasons):
            _print(console, part.text)
        for change in task.advice.list_details("change"):
            _print(console, f"- {change.text}")
    if front := build_front_table(task):
        console.print(TableLayout(front, several))
    for sentence in task.sentences:
        _print(console, sentence)
    for table in (build_score_table(task), build_cost_table(task)):
        if table.rows:
            console.print(TableLayout(table, several))
    for further in task.tables:
        if further.name != "predictions":
            console.print(TableLayout(further, several))
    if memory := build_memory_table(task):
        console.print(TableLayout(memory, several))


@dataclass(frozen=True)
class TableLayout:
    """A table as Rich prints it, in several parts where there is little room.

    Attributes:
        several: whether there are several models; a single one is not named.
    """

    table: Table
    several: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Title, grids and notes."""
        table, several = self.table, self.several
        yield Text(f"{table.title}. {table.above}".rstrip(), style="bold")
        texts = table.texts
        values = table.values
        sentences = find_word_columns(table)
        models = [str(row.get("model") or "-") for row in values] if several else []
        widths = [
            max(map(cell_len, (column.heading, *(line[place] for line in texts))))
            for place, column in enumerate(table.columns)
        ]
        room = options.max_width - _EDGES - sum(widths[:1])
        if several:
            room -= _COLUMN_GAP + max(map(cell_len, ("model", *models)))
        further = [_COLUMN_GAP + min(width, WORDS) for width in widths[1:]]
        for part in _split_columns(further, room) if texts else []:
            grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
            # Names give way, numbers never.
            for heading in (*(["model"] if several else []), table.columns[0].heading):
                grid.add_column(heading, overflow="fold")
            places = [1 + place for place in part]
            for place in places:
                words = place in sentences or table.columns[place].words
                grid.add_column(
                    table.columns[place].heading,
                    justify="left" if words else "right",
                    no_wrap=place not in sentences,
                )
            for number, (row, line) in enumerate(zip(values, texts, strict=True)):
                standing = str(row.get("standing"))
                style = "dim" if row.get("baseline") else _STYLES.get(standing, "")
                cells = [*models[number : number + 1], line[0], *(line[place] for place in places)]
                grid.add_row(*map(Text, cells), style=style)
            yield grid
        for note in table.notes:
            yield Text(note, style="dim")
