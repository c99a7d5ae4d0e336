"""Layout of the bar figures: where every bar, whisker and label lies.

Bars are horizontal: however many methods and models there are, each has its own line of text, and
nothing overlaps. Lengths are in units of an SVG view box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from paretune.analysis.cell import NO_MODEL
from paretune.methods.baselines import CONSTANT
from paretune.reporting.figures.ticks import byte_ticks, ticks_from_zero
from paretune.reporting.model import TaskReport
from paretune.reporting.rows import Row
from paretune.reporting.text.formatting import (
    format_basis,
    format_bytes,
    format_estimate,
    format_interval,
)

WIDTH, NARROW = 440.0, 320.0
LINE, TALL = 22.0, 36.0
"""From one bar to the next; ``TALL`` where its label is above it."""
_CHARACTER = 7.2
_TEXT = {"min": 64.0, "max": 150.0}
_FIGURES = 112.0
_SYMBOLS = {"above": "▲", "unclear": "≈", "below": "▼"}


@dataclass(frozen=True)
class Bar:
    """One line: a label, a bar from the axis, a whisker, and its value in words at the right.

    ``kind`` is a CSS class: ``above``, ``unclear``, ``below``, ``baseline``, ``memory_figure`` or
    ``none``. Where ``length`` is None there is no bar, and ``note`` says why. ``draws_line``: a
    line
    carries it through the other bars of its group. ``segments``: a stacked bar's parts from the
    axis on, each a kind and a length.
    """

    label: str
    name: str
    y: float
    kind: str
    length: float | None = None
    whisker: tuple[float, float] | None = None
    hatched: bool = False
    value: str = ""
    note: str = ""
    draws_line: bool = False
    segments: tuple[tuple[str, float], ...] = ()

    @property
    def stacked(self) -> tuple[tuple[str, float, float], ...]:
        """Kind, start and length of each segment; of a plain bar the one that it is."""
        parts = self.segments or ((self.kind, self.length or 0.0),)
        starts = accumulate((length for _, length in parts), initial=0.0)
        return tuple((kind, x, length) for (kind, length), x in zip(parts, starts, strict=False))


@dataclass(frozen=True)
class BaselineLine:
    """A baseline drawn through all bars from the one that names it, or through those of a model."""

    x: float
    y: float
    end: float
    name: str


@dataclass(frozen=True)
class BarFigure:
    """One panel: headings and bars from top to bottom, baseline lines, an axis below."""

    id: str
    title: str
    description: str
    width: float
    height: float
    left: float
    plot_width: float
    headings: tuple[tuple[float, str], ...]
    bars: tuple[Bar, ...]
    lines: tuple[BaselineLine, ...]
    ticks: tuple[tuple[float, str], ...]
    bottom: float


def score_figure(task: TaskReport, index: int) -> BarFigure | None:
    """Scores on an axis from 0, baselines first with lines through all others.

    It ends at 1; scores up to 100 are often all low, and their axis ends beyond the highest.
    """
    bare = [r for r in task.baselines if r.cell.model == NO_MODEL and r.interval]
    groups = group_by_model(task, lambda row: row.interval is not None or bool(row.cell.final))
    if not groups and not bare:
        return None
    return lay_out_bars(
        f"quality-{index}",
        f"Quality on {task.key}: {task.metric}",
        [
            ("baselines", [_score_bar(row) for row in bare]),
            *((model, [_score_bar(r) for r in rows]) for model, rows in groups),
        ],
        _score_ticks(task),
    )


def _score_ticks(task: TaskReport) -> list[tuple[float, str]]:
    if task.highest <= 1:
        return [(tick / 4, f"{tick / 4:g}") for tick in range(5)]
    highest = max([row.interval.high for row in task.all_rows if row.interval] + [1.0])
    return ticks_from_zero(highest)


def memory_figure(task: TaskReport, index: int) -> BarFigure | None:
    """Peak memory in training, one solo measurement each."""
    groups = group_by_model(task, lambda row: bool(row.cell.cost))
    known = [r.cost.memory.value for _, rows in groups for r in rows if r.cost.memory.value]
    if not known:
        return None
    highest = max([r.cost.memory.high or 0.0 for _, rows in groups for r in rows] + known)
    return lay_out_bars(
        f"memory-{index}",
        f"Peak memory in training on {task.key}",
        [(model, [_memory_bar(r) for r in rows]) for model, rows in groups],
        byte_ticks(highest),
    )


def group_by_model(task: TaskReport, keep: Callable[[Row], bool]) -> list[tuple[str, list[Row]]]:
    """The rows of a task that train a model and are to be kept, under their models."""
    groups: dict[str, list[Row]] = {}
    for row in task.all_rows:
        if row.cell.model != NO_MODEL and keep(row):
            groups.setdefault(row.model, []).append(row)
    return list(groups.items())


def lay_out_bars(
    id_: str,
    title: str,
    groups: Sequence[tuple[str, list[Bar]]],
    ticks: Sequence[tuple[float, str]],
) -> BarFigure:
    """Put bars in their places; lengths come in axis units and leave in view-box units."""
    longest = max(len(bar.label) for _, bars in groups for bar in bars)
    left = min(max(longest * _CHARACTER + 10, _TEXT["min"]), _TEXT["max"])
    values = max(len(bar.value) for _, bars in groups for bar in bars)
    plot = WIDTH - left - min(values * _CHARACTER, _FIGURES) - 12
    scale = plot / ticks[-1][0]
    y = 4.0
    headings, placed, lines = [], [], []
    for heading, bars in groups:
        if not bars:
            continue
        headings.append((y + 13, heading))
        y += LINE
        first = y
        for bar in bars:
            # A score below 0 (an R² can be) has its number, and no bar to the left of the axis.
            whisker = None if bar.whisker is None else tuple(max(0.0, w) for w in bar.whisker)
            length = None if bar.length is None else max(0.0, bar.length) * scale
            placed.append(
                Bar(
                    label=_shorten(bar.label, left),
                    name=bar.name,
                    y=y,
                    kind=bar.kind,
                    length=length,
                    whisker=None if whisker is None else (whisker[0] * scale, whisker[1] * scale),
                    hatched=bar.hatched,
                    value=bar.value,
                    note=_shorten(bar.note, WIDTH - left),
                    segments=tuple((kind, part * scale) for kind, part in bar.segments),
                )
            )
            if heading == "baselines" and length is not None:
                lines.append(BaselineLine(length, y + LINE / 2, math.inf, bar.label))
            elif bar.draws_line and length is not None:
                lines.append(BaselineLine(length, first, y + LINE, bar.label))
            y += LINE
        y += 6
    return BarFigure(
        id=id_,
        title=title,
        description=". ".join(f"{bar.name}: {bar.value or bar.note}" for bar in placed) + ".",
        width=WIDTH,
        height=y + 22,
        left=left,
        plot_width=plot,
        headings=tuple(headings),
        bars=tuple(placed),
        lines=tuple(replace(line, end=min(line.end, y)) for line in lines),
        ticks=tuple((value * scale, text) for value, text in ticks),
        bottom=y,
    )


def narrow_figure(wide: BarFigure) -> BarFigure:
    """The figure for a phone: labels and values above the bars, which take the full width."""
    left = 2.0
    plot = NARROW - 2 * left - 6
    across, down = plot / wide.plot_width, TALL / LINE
    bars = [
        replace(
            bar,
            y=bar.y * down,
            length=None if bar.length is None else bar.length * across,
            whisker=bar.whisker and (bar.whisker[0] * across, bar.whisker[1] * across),
            segments=tuple((kind, part * across) for kind, part in bar.segments),
        )
        for bar in wide.bars
    ]
    return replace(
        wide,
        id=f"{wide.id}-n",
        width=NARROW,
        height=wide.bottom * down + 22,
        left=left,
        plot_width=plot,
        # From the heading's line on, so that the first label below it is no nearer.
        headings=tuple(((y - 13) * down + 23, text) for y, text in wide.headings),
        bars=tuple(bars),
        lines=tuple(
            replace(line, x=line.x * across, y=line.y * down + 6, end=line.end * down)
            for line in wide.lines
        ),
        ticks=tuple((x * across, text) for x, text in wide.ticks),
        bottom=wide.bottom * down,
    )


def _score_bar(row: Row) -> Bar:
    score = row.interval
    if score is None:
        return Bar(row.method, row.title, 0, "none", note=", ".join(row.flags) or "no score yet")
    kind = "baseline"
    if row.verdict is not None and not row.cell.baseline:
        standing = row.verdict.standing
        clear = standing == "below" or row.verdict.above_all
        kind = standing if clear else "unclear"
    symbol = _SYMBOLS.get(kind, "")
    constant = 0 if row.cell.name in CONSTANT else row.cell.outcomes.get("collapsed", 0)
    marks = [format_estimate(score), symbol]
    if constant:
        seeds = len(row.cell.final)
        marks.append("const." if constant == seeds else f"const. {constant}/{seeds}")
    return Bar(
        label=row.method,
        name=f"{row.title}, {format_interval(score)}, {format_basis(score)}",
        y=0,
        kind=kind,
        length=score.estimate,
        whisker=(score.low, score.high),
        hatched=row.collapsed or row.cell.name in CONSTANT,
        value=" ".join(mark for mark in marks if mark),
        draws_line=row.cell.name == "untuned",
    )


def _memory_bar(row: Row) -> Bar:
    memory = row.cost.memory
    if memory.value is None:
        return Bar(row.method, row.title, 0, "none", note=memory.text)
    whisker = None if memory.low is None or memory.high is None else (memory.low, memory.high)
    value = format_bytes(memory.value)
    name = f"{row.title}, {memory.text}"
    return Bar(row.method, name, 0, "memory", memory.value, whisker, value=value)


def _shorten(text: str, width: float) -> str:
    most = round((width - 10) / _CHARACTER)
    return text if len(text) <= most else text[: most - 1] + "…"
