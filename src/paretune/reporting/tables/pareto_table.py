"""The Pareto front of a task over each known cost, and the table of all these costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretune.analysis.pareto.costs import AXIS_TITLES, Axis, estimate_cost
from paretune.analysis.pareto.expected_scores import expected_scores
from paretune.analysis.pareto.front import ParetoPoint, pareto_front
from paretune.analysis.statistics.scores import DRAWS
from paretune.reporting.rows import Row
from paretune.reporting.text.formatting import (
    format_amount,
    format_interval,
    format_n_by_seeds,
    format_share,
)

SHORT_TITLES: dict[Axis, str] = {
    "memory": "peak memory",
    "time": "to train",
    "parameters": "trained",
    "saved": "saved",
    "inference": "inference",
    "forgetting": "forgetting",
}
"""The costs that a report shows, as headings of narrow columns."""


@dataclass(frozen=True)
class AxisFront:
    """The configurations that have a score and a cost on ``axis``, cheapest first."""

    axis: Axis
    points: tuple[ParetoPoint, ...]


@dataclass(frozen=True)
class ParetoRow:
    """One configuration: its score, ``examples x seeds``, and a text for each cost.

    A cost's text is the amount and the share of draws in which the configuration is on that front.
    """

    row: Row
    score: str
    basis: str
    costs: tuple[str, ...]


@dataclass(frozen=True)
class ParetoTable:
    """One front for each known cost, and one table row for each configuration on any of them."""

    fronts: tuple[AxisFront, ...]
    rows: tuple[ParetoRow, ...]
    note: str

    @property
    def titles(self) -> tuple[str, ...]:
        """Names of the costs."""
        return tuple(AXIS_TITLES[front.axis] for front in self.fronts)

    @property
    def short_titles(self) -> tuple[str, ...]:
        """Names of the costs, for narrow columns."""
        return tuple(SHORT_TITLES[front.axis] for front in self.fronts)


def build_pareto_table(rows: Sequence[Row]) -> ParetoTable | None:
    """The fronts of one task over all its models.

    Returns:
        None while fewer than two configurations have a score and a cost.
    """
    titled = {row.title: row for row in rows}
    by_key = expected_scores([row.cell for row in rows])
    expected = {
        name: forecast
        for name, row in titled.items()
        if (forecast := by_key.get((row.cell.model, row.cell.method))) is not None
    }
    scores = {name: forecast.score for name, forecast in expected.items()}
    points: dict[Axis, dict[str, ParetoPoint]] = {}
    for axis in SHORT_TITLES:
        known = {n: c for n in scores if (c := estimate_cost(titled[n].cell, axis)) is not None}
        if len(known) > 1:
            points[axis] = {point.name: point for point in pareto_front(scores, known, expected)}
    if not points:
        return None
    configurations = [
        name for name in titled if any(name in on_axis for on_axis in points.values())
    ]
    table = []
    for name in configurations:
        score = next(on_axis[name].quality for on_axis in points.values() if name in on_axis)
        basis = format_n_by_seeds(score)
        costs = tuple(_format_point(axis, on_axis.get(name)) for axis, on_axis in points.items())
        table.append(ParetoRow(titled[name], format_interval(score), basis, costs))
    return ParetoTable(
        fronts=tuple(AxisFront(axis, tuple(on_axis.values())) for axis, on_axis in points.items()),
        rows=tuple(table),
        note=f"Cost, and the share of {DRAWS:,} draws (test examples, seeds, cost where its spread "
        "was measured) in which no other configuration is both as cheap and as good. The cheapest "
        "always has 100 %, however low its score. Runs that failed count as the constant answer.",
    )


def _format_point(axis: Axis, point: ParetoPoint | None) -> str:
    if point is None:
        return "not measured"
    return f"{format_amount(axis, point.cost.value)}, on front: {format_share(point.probability)}"
