"""Learning curves as small multiples: selection score over steps, one line for each seed.

Of a translation the loss: its checkpoints are chosen by it, and texts are made at the end only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paretune.reporting.model import TaskReport
from paretune.reporting.rows import Row
from paretune.store.record import Record

WIDTH, HEIGHT = 150.0, 64.0

Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class CurvePanel:
    """One cell: ``lines`` are SVG point lists; what is below the axis lies on it."""

    title: str
    description: str
    lines: tuple[str, ...]
    steps: int


@dataclass(frozen=True)
class CurvePanels:
    """All cells of a task on one axis, and what it shows."""

    caption: str
    panels: tuple[CurvePanel, ...]


def build_curve_panels(task: TaskReport) -> CurvePanels:
    """A panel for each cell whose final runs left a curve of two points or more."""
    found = [(row, curves) for row in task.all_rows if (curves := _curves(row, task.generates))]
    low, high, what = 0.0, 1.0, "score"
    caption = "Selection score, 0 to 1, over training steps; one line for each seed."
    if task.generates and found:
        every = [value for _, curves in found for curve in curves for _, value in curve]
        low, high, what = min(every), max(every), "loss"
        caption = (
            f"Selection loss, nats a token, over training steps; one line for each seed. The axis "
            f"runs from {low:.2f} to {high:.2f} in every panel."
        )
    scale = 1 / (high - low) if high > low else 1.0
    return CurvePanels(
        caption,
        tuple(
            _panel(row, [[(s, (v - low) * scale) for s, v in c] for c in curves], curves, what)
            for row, curves in found
        ),
    )


def _panel(row: Row, curves: list[Curve], values: list[Curve], what: str) -> CurvePanel:
    steps = max(step for curve in curves for step, _ in curve)
    ends = ", ".join(f"{curve[-1][1]:.2f}" for curve in values)
    return CurvePanel(
        title=row.title,
        description=f"Selection {what} of {row.title} over {steps} steps; the seeds end at {ends}.",
        lines=tuple(
            " ".join(f"{WIDTH * s / steps:.1f},{HEIGHT * (1 - max(v, 0.0)):.1f}" for s, v in curve)
            for curve in curves
        ),
        steps=steps,
    )


def _curves(row: Row, loss: bool) -> list[Curve]:
    return [c for c in (list(_points(r, loss)) for r in row.cell.final) if len(c) > 1]


def _points(record: Record, loss: bool) -> Iterable[tuple[int, float]]:
    for point in record.result.get("curve") or ():
        found: Any = point.get("selection")
        if isinstance(found, Mapping):
            found = found.get("loss" if loss else "primary")
        if found is not None and math.isfinite(found):
            yield int(point["step"]), float(found)
