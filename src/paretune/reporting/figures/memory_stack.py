"""The figure of where the bytes go: one stacked bar for each cell, up to its peak in training."""

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
"""What a segment of the picture is called; its keys are CSS classes."""


def build_memory_stack(task: TaskReport, index: int) -> BarFigure | None:
    """Where the bytes of training go, part by part; None where no cell tells.

    Args:
        task: a task of the report.
        index: its place, for the figure's id.
    """
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


def stack_kinds(shown: BarFigure) -> tuple[str, ...]:
    """The kinds of segments that a figure has, from the axis on: its legend."""
    seen = {kind for bar in shown.bars for kind, _ in bar.segments}
    return tuple(kind for kind in SEGMENT_TITLES if kind in seen)


def _bar(row: Row) -> Bar | None:
    parts = row.memory
    if parts is None or parts.peak is None:
        return None
    if not parts.stacked_parts:
        return Bar(row.method, row.title, 0, "none", note="parts do not add up to the peak")
    said = ", ".join(
        f"{SEGMENT_TITLES[kind]} {format_bytes(size)}" for kind, size in parts.stacked_parts if size
    )
    return Bar(
        label=row.method,
        name=f"{row.title}, {said}",
        y=0,
        kind="memory",
        length=parts.peak,
        value=format_bytes(parts.peak),
        segments=parts.stacked_parts,
    )
