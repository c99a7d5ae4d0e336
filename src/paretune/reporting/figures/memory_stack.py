"""Layout of the memory figure: one stacked bar for each cell, up to its peak in training."""

from __future__ import annotations

from paretune.reporting.figures.bars import Bar, BarFigure, group_by_model, lay_out_bars
from paretune.reporting.figures.ticks import byte_ticks
from paretune.reporting.model import TaskReport
from paretune.reporting.rows import Row
from paretune.reporting.text.formatting import format_bytes

SEGMENT_TITLES = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser states",
    "activations": "activations",
    "rest": "the rest",
    "working": "activations and the rest",
}
"""Titles of the segments; the keys are CSS classes."""


def build_memory_stack(task: TaskReport, index: int) -> BarFigure | None:
    """Peak memory by part; None where no part of any cell is known."""
    groups = group_by_model(task, lambda row: bool(row.cell.cost))
    bars = [(model, [bar for row in rows if (bar := _bar(row))]) for model, rows in groups]
    ends = [bar.length for _, group in bars for bar in group if bar.length]
    if not ends:
        return None
    return lay_out_bars(
        f"bytes-{index}",
        f"Peak memory in training on {task.key}, by its parts",
        bars,
        byte_ticks(max(ends)),
    )


def stack_kinds(figure: BarFigure) -> tuple[str, ...]:
    """The kinds of segments in a figure, in the order of the legend."""
    present = {kind for bar in figure.bars for kind, _ in bar.segments}
    return tuple(kind for kind in SEGMENT_TITLES if kind in present)


def _bar(row: Row) -> Bar | None:
    memory = row.memory
    if memory is None or memory.peak is None:
        return None
    if not memory.stacked_parts:
        return Bar(row.method, row.title, 0, "none", note="parts do not add up to the peak")
    parts = ", ".join(
        f"{SEGMENT_TITLES[kind]} {format_bytes(size)}"
        for kind, size in memory.stacked_parts
        if size
    )
    return Bar(
        label=row.method,
        name=f"{row.title}, {parts}",
        y=0,
        kind="memory",
        length=memory.peak,
        value=format_bytes(memory.peak),
        segments=memory.stacked_parts,
    )
