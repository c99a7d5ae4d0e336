"""The figure of where the bytes go: one stacked bar for each cell, up to its peak in training."""

from __future__ import annotations

from paretune.analysis.memory_parts import memory_parts
from paretune.report import words
from paretune.report.bars import Bar, Figure, by_model, figure, size_ticks
from paretune.report.build import Row, TaskPart

KINDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser states",
    "activations": "activations",
    "rest": "the rest",
    "working": "activations and the rest",
}
"""What a segment of the picture is called; its keys are CSS classes."""


def memory_stack(task: TaskPart, index: int) -> Figure | None:
    """Where the bytes of training go, part by part; None where no cell tells.

    Args:
        task: a task of the report.
        index: its place, for the figure's id.
    """
    groups = by_model(task, lambda row: bool(row.cell.cost))
    bars = [(model, [bar for row in rows if (bar := _bar(row))]) for model, rows in groups]
    ends = [bar.length for _, group in bars for bar in group if bar.length]
    if not ends:
        return None
    return figure(
        f"bytes-{index}",
        f"Peak memory in training on {task.key}, by its parts",
        bars,
        size_ticks(max(ends)),
    )


def kinds(shown: Figure) -> tuple[str, ...]:
    """The kinds of segments that a figure has, from the axis on: its legend."""
    seen = {kind for bar in shown.bars for kind, _ in bar.segments}
    return tuple(kind for kind in KINDS if kind in seen)


def _bar(row: Row) -> Bar | None:
    parts = memory_parts(row.cell.cost)
    if parts is None or parts.peak is None:
        return None
    if not parts.stack:
        return Bar(row.method, row.title, 0, "none", note="parts do not add up to the peak")
    said = ", ".join(f"{KINDS[kind]} {words.size(size)}" for kind, size in parts.stack if size)
    return Bar(
        label=row.method,
        name=f"{row.title}, {said}",
        y=0,
        kind="memory",
        length=parts.peak,
        value=words.size(parts.peak),
        segments=parts.stack,
    )
