"""Learning curves as small multiples: selection score over steps, one line for each seed.

For generated texts the selection loss: it selects the checkpoint, and texts are generated only
once, at the end of a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.reporting.model import TaskReport
from paretune.reporting.rows import Row
from paretune.store.record import Record

WIDTH, HEIGHT = 150.0, 64.0

Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class CurvePanel:
    """One cell; ``lines`` are SVG point lists, cut off at the bottom of the axis."""

    title: str
    description: str
    lines: tuple[str, ...]
    steps: int


@dataclass(frozen=True)
class CurvePanels:
    """All cells of a task on one axis; ``caption`` says what it shows."""

    caption: str
    panels: tuple[CurvePanel, ...]


def build_curve_panels(task: TaskReport) -> CurvePanels:
    """One panel for each cell whose final runs have curves of at least two points."""
    curves = [(row, of_row) for row in task.all_rows if (of_row := _curves(row, task.generates))]
    low, high, quantity = 0.0, 1.0, "score"
    caption = "Selection score, 0 to 1, over training steps; one line for each seed."
    if task.generates and curves:
        values = [value for _, of_row in curves for curve in of_row for _, value in curve]
        low, high, quantity = min(values), max(values), "loss"
        caption = (
            f"Selection loss, nats a token, over training steps; one line for each seed. The axis "
            f"runs from {low:.2f} to {high:.2f} in every panel."
        )
    scale = 1 / (high - low) if high > low else 1.0
    return CurvePanels(
        caption,
        tuple(_lay_out_panel(row, of_row, quantity, (low, scale)) for row, of_row in curves),
    )


def _lay_out_panel(
    row: Row, curves: Sequence[Curve], quantity: str, axis: tuple[float, float]
) -> CurvePanel:
    """``axis``: the value at the bottom, and the share of the height that one unit takes."""
    low, scale = axis
    steps = max(step for curve in curves for step, _ in curve)
    ends = ", ".join(f"{curve[-1][1]:.2f}" for curve in curves)

    def point(step: int, value: float) -> str:
        height = max((value - low) * scale, 0.0)
        return f"{WIDTH * step / steps:.1f},{HEIGHT * (1 - height):.1f}"

    return CurvePanel(
        title=row.title,
        description=(
            f"Selection {quantity} of {row.title} over {steps} steps; the seeds end at {ends}."
        ),
        lines=tuple(" ".join(point(*one) for one in curve) for curve in curves),
        steps=steps,
    )


def _curves(row: Row, loss: bool) -> list[Curve]:
    curves = [list(_curve_points(record, loss)) for record in row.cell.final]
    return [curve for curve in curves if len(curve) > 1]


def _curve_points(record: Record, loss: bool) -> Iterable[tuple[int, float]]:
    if record.run.readout == "text" and not loss:
        return  # its loss has selected: no texts are generated before the end
    for point in record.result.get("curve") or ():
        value: Any = point.get("selection")
        if isinstance(value, Mapping):
            value = value.get("loss" if loss else "primary")
        if value is not None and math.isfinite(value):
            yield int(point["step"]), float(value)
