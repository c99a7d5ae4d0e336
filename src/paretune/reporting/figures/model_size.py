"""Layout of the figure of score and memory against model size: one panel for each method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paretune.reporting.figures.ticks import byte_ticks, round_ticks
from paretune.reporting.model import TaskReport
from paretune.reporting.rows import Row
from paretune.reporting.tables.model_sizes import ModelSizes
from paretune.reporting.text.formatting import format_basis, format_interval, format_parameters

WIDTH, LEFT, RIGHT = 230.0, 52.0, 222.0
TOP, MIDDLE, LOWER, BOTTOM, HEIGHT = 6.0, 106.0, 128.0, 198.0, 222.0
"""Scores lie between ``TOP`` and ``MIDDLE`` of a panel, memory between ``LOWER`` and ``BOTTOM``."""

Scale = Callable[[float], float]


@dataclass(frozen=True)
class SizePoint:
    """One model in a panel: a point, and the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SizePanel:
    """One method over the sizes of its models."""

    title: str
    description: str
    scores: tuple[SizePoint, ...]
    memory: tuple[SizePoint, ...]


@dataclass(frozen=True)
class ModelSizeFigure:
    """All panels of a task; ticks are places with their labels."""

    id: str
    panels: tuple[SizePanel, ...]
    x_ticks: tuple[tuple[float, str], ...]
    score_ticks: tuple[tuple[float, str], ...]
    memory_ticks: tuple[tuple[float, str], ...]

    @property
    def all_lines(self) -> tuple[str, ...]:
        """The lines of every method as SVG point lists: drawn faint behind each panel."""
        lines = [points for panel in self.panels for points in (panel.scores, panel.memory)]
        return tuple(svg_points(line) for line in lines if len(line) > 1)


def svg_points(line: Sequence[SizePoint]) -> str:
    """The ``points`` attribute of an SVG polyline."""
    return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in line)


def lay_out_model_sizes(task: TaskReport, index: int) -> ModelSizeFigure | None:
    """The figure of a task; None where it has no models to compare.

    Args:
        index: its place in the report, for the figure's id.
    """
    sizes = task.model_sizes
    if sizes is None:
        return None
    rows = [row for _, of_method in sizes.methods for row in of_method]
    counts = sorted(sizes.size_of(row) for row in rows)
    x = _linear_scale([math.log10(count) for count in counts], LEFT + 12, RIGHT - 12)
    scores = [row.interval for row in rows if row.interval]
    score_ticks = round_ticks(
        min(score.low for score in scores), max(score.high for score in scores), task.highest
    )
    y = _linear_scale([score_ticks[0][0], score_ticks[-1][0]], MIDDLE, TOP)
    highest = max((_highest_memory(row) for row in rows), default=0.0)
    ticks = byte_ticks(highest) if highest else []
    y_memory = _linear_scale([0.0, ticks[-1][0]], BOTTOM, LOWER) if ticks else None

    def panel(name: str, of_method: Sequence[Row]) -> SizePanel:
        placed = [(row, x(math.log10(sizes.size_of(row)))) for row in of_method]
        weighed = [(row, at) for row, at in placed if row.cost.memory.value is not None]
        return SizePanel(
            title=name,
            description=f"{name}: " + "; ".join(_describe(row, sizes) for row in of_method) + ".",
            scores=tuple(_score_point(at, row, y) for row, at in placed),
            memory=tuple(_memory_point(at, row, y_memory) for row, at in weighed)
            if y_memory
            else (),
        )

    return ModelSizeFigure(
        id=f"size-{index}",
        panels=tuple(panel(name, of_method) for name, of_method in sizes.methods),
        x_ticks=tuple(
            (x(math.log10(count)), format_parameters(count))
            for count in dict.fromkeys((counts[0], counts[-1]))
        ),
        score_ticks=tuple((y(value), text) for value, text in score_ticks),
        memory_ticks=tuple((y_memory(v), t) for v, t in (ticks[0], ticks[-1])) if y_memory else (),
    )


def _linear_scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _highest_memory(row: Row) -> float:
    memory = row.cost.memory
    return max(memory.value or 0.0, memory.high or 0.0)


def _score_point(x: float, row: Row, y: Scale) -> SizePoint:
    assert row.interval is not None  # noqa: S101 - only scored rows are compared
    return SizePoint(x, y(row.interval.estimate), y(row.interval.low), y(row.interval.high))


def _memory_point(x: float, row: Row, y: Scale) -> SizePoint:
    memory = row.cost.memory
    low, high = (None if end is None else y(end) for end in (memory.low, memory.high))
    return SizePoint(x, y(memory.value or 0.0), low, high)


def _describe(row: Row, sizes: ModelSizes) -> str:
    score = row.interval
    text = f"{format_interval(score)} ({format_basis(score)})" if score else "no score"
    count = format_parameters(sizes.size_of(row))
    return f"{row.model}, {count} parameters: {text}, {row.cost.memory.text}"
