"""Layout of the Pareto figures: where every point, whisker, label and tick lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paretune.analysis.pareto.costs import AXIS_TITLES, LINEAR_AXES, Axis
from paretune.analysis.pareto.front import ParetoPoint
from paretune.reporting.figures.ticks import round_ticks
from paretune.reporting.model import TaskReport
from paretune.reporting.tables.pareto_table import AxisFront
from paretune.reporting.text.cost_amounts import format_amount, format_cost
from paretune.reporting.text.formatting import format_basis, format_interval, format_share

WIDTH, PLOT, TOP = 660.0, 370.0, 12.0
LEFT = 46.0
NARROW, _NARROW_PLOT = 320.0, 244.0
"""Of the figure for a phone: names are listed below it, and points are numbered."""
_LINE_HEIGHT = 24.0
"""Between two labels: they are links, and a finger needs this much (WCAG 2.2, 2.5.8)."""


@dataclass(frozen=True)
class ParetoMark:
    """One configuration, in view-box units; its label is at ``label_y``.

    ``name`` begins like ``label`` and adds the numbers; ``row_id`` is the id of its table row.
    """

    point: ParetoPoint
    row_id: str
    name: str
    label: str
    share: str
    x: float
    y: float
    low: float
    high: float
    label_y: float
    on_front: bool


@dataclass(frozen=True)
class ParetoFigure:
    """Scores over one cost, with the staircase of the front.

    ``scores`` are those at ``bottom`` and at ``TOP``; ``costs`` those at ``LEFT`` and at
    ``LEFT + plot_width``. ``marks`` are ordered by cost. ``zero``: the cost at whose place those of
    0 stand, which have none on a logarithmic axis; None where there are none.
    """

    id: str
    axis: Axis
    title: str
    logarithmic: bool
    zero: float | None
    scores: tuple[float, float]
    costs: tuple[float, float]
    width: float
    plot_width: float
    height: float
    bottom: float
    marks: tuple[ParetoMark, ...]
    stairs: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]

    @property
    def labelled_marks(self) -> tuple[ParetoMark, ...]:
        """The marks in the order of their labels, from the top."""
        return tuple(sorted(self.marks, key=lambda mark: mark.label_y))


@dataclass(frozen=True)
class ParetoFigures:
    """One figure for each cost; ``narrow`` is the first one for a phone.

    ``row_ids`` are the ids of the table rows on the page.
    """

    figures: tuple[ParetoFigure, ...]
    narrow: ParetoFigure
    row_ids: tuple[str, ...]


def lay_out_pareto(task: TaskReport, index: int) -> ParetoFigures | None:
    """The figures of a task's fronts; None where it has none.

    Args:
        index: its place in the report, for ids.
    """
    if task.pareto is None:
        return None
    names = [row.row.title for row in task.pareto.rows]
    row_ids = {name: f"point-{index}-{place}" for place, name in enumerate(names)}
    layout = _Layout(task.highest, row_ids)
    fronts = task.pareto.fronts
    return ParetoFigures(
        figures=tuple(layout.lay_out(front, f"front-{index}-{front.axis}") for front in fronts),
        narrow=layout.lay_out(fronts[0], f"front-{index}-narrow", narrow=True),
        row_ids=tuple(row_ids.values()),
    )


@dataclass(frozen=True)
class _Layout:
    """``highest``: the highest possible score. ``row_ids``: ids of the table rows, by title."""

    highest: float
    row_ids: Mapping[str, str]

    def lay_out(self, front: AxisFront, figure_id: str, *, narrow: bool = False) -> ParetoFigure:
        """Place the marks; labels are at the right, ordered by score, and never overlap."""
        points, axis = front.points, front.axis
        width, plot_width = (NARROW, _NARROW_PLOT) if narrow else (WIDTH, PLOT)
        height = max(260.0 if narrow else 320.0, _LINE_HEIGHT * len(points) + 30)
        bottom = height - 34
        zero = None if axis in LINEAR_AXES else _place_of_zero([p.cost.value for p in points])
        costs = [p.cost.value or zero or 0.0 for p in points]
        low_x, high_x = min(costs), max(costs)
        logarithmic = axis not in LINEAR_AXES and high_x > 20 * low_x > 0
        scale = math.log10 if logarithmic else float
        unscale = (lambda value: 10.0**value) if logarithmic else float
        start, end = scale(low_x), scale(high_x)
        span = (end - start) or 0.1 * abs(start) or 1.0
        start, span = start - 0.06 * span, 1.12 * span

        ticks = round_ticks(
            min(p.quality.low for p in points), max(p.quality.high for p in points), self.highest
        )
        low_y, high_y = ticks[0][0], ticks[-1][0]

        def x(value: float) -> float:
            return LEFT + (scale(value or zero or 0.0) - start) / span * plot_width

        def y(value: float) -> float:
            return bottom - (value - low_y) / (high_y - low_y) * (bottom - TOP)

        label_heights = _spread_labels([y(p.quality.estimate) for p in points], TOP + 4, bottom)
        marks = [
            ParetoMark(
                point=p,
                row_id=self.row_ids[p.name],
                name=f"{p.name}, on front: {format_share(p.probability)} of draws; "
                f"{format_interval(p.quality)}, {format_basis(p.quality)}; "
                f"{format_cost(axis, p.cost)}",
                label=f"{_shorten(p.name)}, on front: {format_share(p.probability)}",
                share=format_share(p.probability),
                x=x(p.cost.value),
                y=y(p.quality.estimate),
                low=y(p.quality.low),
                high=y(p.quality.high),
                label_y=label_y,
                on_front=p.on_front,
            )
            for p, label_y in zip(points, label_heights, strict=True)
        ]
        return ParetoFigure(
            id=figure_id,
            axis=axis,
            title=f"Score over {AXIS_TITLES[axis]}{' (logarithmic)' if logarithmic else ''}",
            logarithmic=logarithmic,
            zero=zero,
            scores=(low_y, high_y),
            costs=(unscale(start), unscale(start + span)),
            width=width,
            plot_width=plot_width,
            height=height,
            bottom=bottom,
            marks=tuple(marks),
            stairs=_staircase([m for m in marks if m.on_front], LEFT + plot_width),
            x_ticks=tuple(_cost_ticks(axis, (low_x, high_x), x, plot_width, zero)),
            y_ticks=tuple((y(value), text) for value, text in ticks),
        )


def _place_of_zero(costs: Sequence[float]) -> float | None:
    """A power of ten at least ten times below every other cost; None where no cost is 0."""
    others = [cost for cost in costs if cost > 0]
    if not others or len(others) == len(costs):
        return None
    return 10.0 ** (math.floor(math.log10(min(others))) - 1)


def _cost_ticks(
    axis: Axis,
    ends: tuple[float, float],
    x: Callable[[float], float],
    plot_width: float,
    zero: float | None,
) -> Iterable[tuple[float, str]]:
    """The lowest and the highest cost, and evenly spaced costs between them where they fit."""
    low, high = x(ends[0]), x(ends[1])
    yield low, format_amount(axis, 0.0 if ends[0] == zero else ends[0])
    count = min(3, int((high - low) / (plot_width / 4)))
    for place in range(1, count):
        at = low + (high - low) * place / count
        # The cost at this place by bisection, since the scale may be logarithmic.
        below, above = ends
        for _ in range(60):
            middle = (below + above) / 2
            below, above = (middle, above) if x(middle) < at else (below, middle)
        value = float(f"{below:.2g}")
        yield x(value), format_amount(axis, value)
    if high > low:
        yield high, format_amount(axis, ends[1])


def _staircase(marks: Sequence[ParetoMark], right: float) -> str:
    """The SVG path of the front from its cheapest mark to the right edge."""
    path = f"M{marks[0].x:.1f} {marks[0].y:.1f}"
    for mark in marks[1:]:
        path += f"H{mark.x:.1f}V{mark.y:.1f}"
    return f"{path}H{right:.1f}"


def _spread_labels(targets: Sequence[float], top: float, bottom: float) -> list[float]:
    """Heights near ``targets``, at least one line apart, between ``top`` and ``bottom``."""
    order = sorted(range(len(targets)), key=lambda i: targets[i])
    placed = [0.0] * len(targets)
    last = top - _LINE_HEIGHT
    for i in order:
        last = placed[i] = max(targets[i], last + _LINE_HEIGHT)
    below = bottom
    for i in reversed(order):
        placed[i] = min(placed[i], below)
        below = placed[i] - _LINE_HEIGHT
    return placed


def _shorten(text: str) -> str:
    return text if len(text) <= 26 else text[:25] + "…"
