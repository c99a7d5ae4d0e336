"""Learning curves as small multiples: selection score over steps, one line for each seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paretune.report.build import Row, TaskPart
from paretune.store.record import Record

WIDTH, HEIGHT = 150.0, 64.0


@dataclass(frozen=True)
class Panel:
    """One cell: ``lines`` are SVG point lists; the axis runs from 0 to 1, lower lies on it."""

    title: str
    description: str
    lines: tuple[str, ...]
    steps: int


def panels(task: TaskPart) -> list[Panel]:
    """A panel for each cell whose final runs left a curve of two points or more."""
    return [panel for row in task.all_rows if (panel := _panel(row)) is not None]


def _panel(row: Row) -> Panel | None:
    curves = [c for c in (list(_points(r)) for r in row.cell.final) if len(c) > 1]
    if not curves:
        return None
    steps = max(step for curve in curves for step, _ in curve)
    ends = ", ".join(f"{curve[-1][1]:.2f}" for curve in curves)
    return Panel(
        title=row.title,
        description=f"Selection score of {row.title} over {steps} steps; the seeds end at {ends}.",
        lines=tuple(
            " ".join(f"{WIDTH * s / steps:.1f},{HEIGHT * (1 - max(v, 0.0)):.1f}" for s, v in curve)
            for curve in curves
        ),
        steps=steps,
    )


def _points(record: Record) -> Iterable[tuple[int, float]]:
    for point in record.result.get("curve") or ():
        found: Any = point.get("selection")
        value = found.get("primary") if isinstance(found, Mapping) else found
        if value is not None and math.isfinite(value):
            yield int(point["step"]), float(value)
