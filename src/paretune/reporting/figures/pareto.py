"""The Pareto front of a task: a table of every known cost, and a picture over each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paretune.analysis.pareto.costs import AXIS_TITLES, Axis, estimate_cost
from paretune.analysis.pareto.front import ParetoPoint, draw_scores, pareto_front
from paretune.analysis.score_with_failures import keep_comparable, score_with_failures
from paretune.analysis.statistics.bootstrap import DRAWS
from paretune.reporting.text.cost_amounts import format_amount, format_cost
from paretune.reporting.text.formatting import format_basis, format_interval, format_units

if TYPE_CHECKING:
    from paretune.reporting.build import Row

_SHORT: dict[Axis, str] = {
    "memory": "peak memory",
    "time": "to train",
    "parameters": "trained",
    "saved": "saved",
    "inference": "inference",
}
"""The costs that are shown, as they head narrow columns."""
WIDTH, PLOT, TOP = 660.0, 370.0, 12.0
LEFT = 46.0
NARROW, _NARROW_PLOT = 320.0, 244.0
"""Of the picture for a phone, where names stand in a list below and numbers beside the points."""
_LINE = 24.0
"""Between two labels: they are links, and a finger needs as much (WCAG 2.2, 2.5.8)."""


@dataclass(frozen=True)
class ParetoTable:
    """``titles`` (``short`` ones) are the known costs, each with its picture.

    Each row has its score, what it stands on, and a text for each cost: how much, and the share of
    draws in which it is on that front. ``ids`` are the rows' on the page.
    """

    titles: tuple[str, ...]
    short: tuple[str, ...]
    rows: tuple[tuple[Row, str, str, tuple[str, ...]], ...]
    ids: tuple[str, ...]
    note: str
    pictures: tuple[ParetoFigure, ...]
    narrow: ParetoFigure

    @property
    def picture(self) -> ParetoFigure:
        """Over the first cost that is known: the one that stands without JavaScript.

        ``narrow`` is the same for a phone.
        """
        return self.pictures[0]


@dataclass(frozen=True)
class ParetoMark:
    """One configuration in the picture, in view-box units; its label stands at ``label_y``.

    ``name`` begins as the label does and says the rest; ``row`` is the id of its row in the table.
    """

    point: ParetoPoint
    row: str
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

    ``scores`` are those at the bottom and at ``TOP``; ``costs`` those at ``LEFT`` and at
    ``LEFT + plot``. ``marks`` are in the order of their costs.
    """

    id: str
    axis: Axis
    title: str
    logarithmic: bool
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
    def listed(self) -> tuple[ParetoMark, ...]:
        """The marks as their labels stand, from above."""
        return tuple(sorted(self.marks, key=lambda mark: mark.label_y))


def build_pareto_table(rows: Sequence[Row], index: int, highest: float = 1.0) -> ParetoTable | None:
    """The front of one task over all its models; None while fewer than two have score and cost."""
    titled = {row.title: row for row in rows}
    scores = keep_comparable((name, score_with_failures(row.cell)) for name, row in titled.items())
    draws = draw_scores(scores)
    found: dict[Axis, dict[str, ParetoPoint]] = {}
    for axis in _SHORT:
        costs = {n: c for n in scores if (c := estimate_cost(titled[n].cell, axis)) is not None}
        if len(costs) > 1:
            found[axis] = {point.name: point for point in pareto_front(scores, costs, draws)}
    if not found:
        return None
    shown = [n for n in titled if any(n in points for points in found.values())]
    ids = {name: f"point-{index}-{place}" for place, name in enumerate(shown)}
    table = []
    for name in shown:
        interval = next(p[name].quality for p in found.values() if name in p)
        basis = f"{format_units(interval)} x {interval.n_seeds}"
        texts = tuple(_text(axis, points.get(name)) for axis, points in found.items())
        table.append((titled[name], format_interval(interval), basis, texts))
    return ParetoTable(
        titles=tuple(AXIS_TITLES[axis] for axis in found),
        short=tuple(_SHORT[axis] for axis in found),
        rows=tuple(table),
        ids=tuple(ids.values()),
        note=f"Cost, and the share of {DRAWS:,} draws (test examples, seeds, cost where its spread "
        "was measured) in which no other configuration is both as cheap and as good. Seeds that "
        "were lost count as the lowest score.",
        pictures=tuple(
            _picture(list(points.values()), axis, f"front-{index}-{axis}", highest, ids)
            for axis, points in found.items()
        ),
        narrow=_picture(
            list(next(iter(found.values())).values()),
            next(iter(found)),
            f"front-{index}-narrow",
            highest,
            ids,
            (NARROW, _NARROW_PLOT),
        ),
    )


def _text(axis: Axis, point: ParetoPoint | None) -> str:
    if point is None:
        return "not measured"
    return f"{format_amount(axis, point.cost.value)}, on front: {format_share(point.probability)}"


def format_share(probability: float) -> str:
    """``93 %``; never 0 % or 100 % where some draws said otherwise."""
    if 0 < probability < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= probability < 1 else f"{100 * probability:.0f} %"


def _picture(
    points: Sequence[ParetoPoint],
    axis: Axis,
    id_: str,
    highest: float,
    ids: Mapping[str, str],
    size: tuple[float, float] = (WIDTH, PLOT),
) -> ParetoFigure:
    """Places of marks; labels stand at the right, in the order of scores, and never overlap.

    Args:
        points: on one axis, cheapest first.
        axis: the cost.
        id_: of the picture on the page.
        highest: what a score can come up to.
        ids: of the table's rows, by name.
        size: width of the whole and of the plot in it.
    """
    width, plot = size
    height = max(320.0 if size[0] == WIDTH else 260.0, _LINE * len(points) + 30)
    bottom = height - 34
    costs = [max(p.cost.value, 1e-12) for p in points]
    logarithmic = max(costs) / min(costs) > 20
    low_x, high_x = min(costs), max(costs)
    scale = math.log10 if logarithmic else float
    unscale = (lambda value: 10.0**value) if logarithmic else float
    start, end = scale(low_x), scale(high_x)
    wide = (end - start) or 0.1 * abs(start) or 1.0
    start, wide = start - 0.06 * wide, 1.12 * wide

    ticks = round_ticks(
        min(p.quality.low for p in points), max(p.quality.high for p in points), highest
    )
    low_y, high_y = ticks[0][0], ticks[-1][0]

    def x(value: float) -> float:
        return LEFT + (scale(max(value, 1e-12)) - start) / wide * plot

    def y(value: float) -> float:
        return bottom - (value - low_y) / (high_y - low_y) * (bottom - TOP)

    labels = _apart([y(p.quality.estimate) for p in points], TOP + 4, bottom)
    marks = [
        ParetoMark(
            point=p,
            row=ids[p.name],
            name=f"{p.name}, on front: {format_share(p.probability)} of draws; "
            f"{format_interval(p.quality)}, {format_basis(p.quality)}; {format_cost(axis, p.cost)}",
            label=f"{_short(p.name)}, on front: {format_share(p.probability)}",
            share=format_share(p.probability),
            x=x(p.cost.value),
            y=y(p.quality.estimate),
            low=y(p.quality.low),
            high=y(p.quality.high),
            label_y=place,
            on_front=p.on_front,
        )
        for p, place in zip(points, labels, strict=True)
    ]
    return ParetoFigure(
        id=id_,
        axis=axis,
        title=f"Score over {AXIS_TITLES[axis]}{' (logarithmic)' if logarithmic else ''}",
        logarithmic=logarithmic,
        scores=(low_y, high_y),
        costs=(unscale(start), unscale(start + wide)),
        width=width,
        plot_width=plot,
        height=height,
        bottom=bottom,
        marks=tuple(marks),
        stairs=_stairs([m for m in marks if m.on_front], LEFT + plot),
        x_ticks=tuple(_cost_ticks(axis, (low_x, high_x), x, plot)),
        y_ticks=tuple((y(value), text) for value, text in ticks),
    )


def _cost_ticks(
    axis: Axis, ends: tuple[float, float], x: Callable[[float], float], plot: float
) -> Iterable[tuple[float, str]]:
    """The least and the greatest cost, and what lies evenly between them where there is room."""
    low, high = x(ends[0]), x(ends[1])
    yield low, format_amount(axis, ends[0])
    count = min(3, int((high - low) / (plot / 4)))
    for place in range(1, count):
        at = low + (high - low) * place / count
        # The cost at this place, found by halving: the scale may be logarithmic.
        below, above = ends
        for _ in range(60):
            middle = (below + above) / 2
            below, above = (middle, above) if x(middle) < at else (below, middle)
        value = float(f"{below:.2g}")
        yield x(value), format_amount(axis, value)
    if high > low:
        yield high, format_amount(axis, ends[1])


def _stairs(marks: Sequence[ParetoMark], right: float) -> str:
    """The path of the front from its cheapest to the right edge."""
    path = f"M{marks[0].x:.1f} {marks[0].y:.1f}"
    for mark in marks[1:]:
        path += f"H{mark.x:.1f}V{mark.y:.1f}"
    return f"{path}H{right:.1f}"


def _apart(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Heights near those wanted, at least a line apart, inside the picture."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    last = top - _LINE
    for i in order:
        last = placed[i] = max(wanted[i], last + _LINE)
    below = bottom
    for i in reversed(order):
        placed[i] = min(placed[i], below)
        below = placed[i] - _LINE
    return placed


def _short(text: str) -> str:
    return text if len(text) <= 26 else text[:25] + "…"


def round_ticks(low: float, high: float, highest: float) -> list[tuple[float, str]]:
    """Round scores from below ``low`` to above ``high``, and as they are written.

    Args:
        low: the lowest that is drawn.
        high: the highest.
        highest: what a score can come up to.
    """
    step = _step(max(high - low, highest / 1000))
    first, last = math.floor(low / step), math.ceil(high / step)
    digits = 0 if step >= 1 else max(0, -math.floor(math.log10(step)))
    # A multiple of the step, and not a sum of steps, so that no 0.30000000000000004 is an end.
    return [
        (round(i * step, digits), f"{i * step:z.{digits}f}")
        for i in range(first, max(last, first + 1) + 1)
    ]


def _step(spread: float) -> float:
    """A round step (1, 2 or 5 x 10^k) that gives three to five ticks."""
    power = 10.0 ** math.floor(math.log10(spread / 4))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= spread / 4 - 1e-12)
