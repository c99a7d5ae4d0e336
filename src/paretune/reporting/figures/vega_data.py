"""The Pareto figures as the page's script draws them: numbers, and texts that are written
already.
"""

from __future__ import annotations

from typing import Any

from paretune.analysis.pareto.costs import AXIS_TITLES, Axis
from paretune.reporting.figures.pareto import TOP, ParetoFigure, ParetoFigures, ParetoMark
from paretune.reporting.text.formatting import format_basis, format_interval

_UNITS: dict[Axis, tuple[tuple[str, float], ...]] = {
    "memory": (("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30)),
    "saved": (("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30)),
    "time": (("s", 1.0), ("min", 60.0), ("h", 3600.0)),
    "parameters": (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)),
    "inference": (("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)),
    "forgetting": (("nats", 1.0),),
}
"""Units of an axis, smallest first; a budget is given in the one that suits the largest cost."""


def pareto_data(pareto: ParetoFigures) -> dict[str, Any]:
    """What the script needs of one task: its axes, each with its points.

    Costs are in ``unit``; ``label`` is the score at whose height a point's name is drawn, so
    that names do not overlap; ``row`` is the id of the point's row in the table.
    """
    return {"axes": [_axis_data(figure) for figure in pareto.figures]}


def _axis_data(figure: ParetoFigure) -> dict[str, Any]:
    unit, factor = _choose_unit(figure)
    low, high = figure.costs
    return {
        "title": AXIS_TITLES[figure.axis],
        "unit": unit,
        "log": figure.logarithmic,
        "zero": None if figure.zero is None else _round(figure.zero / factor),
        "costs": [_round(max(low, 0.0) / factor), _round(high / factor)],
        "scores": list(figure.scores),
        "ticks": [[_score_at(figure, y), text] for y, text in figure.y_ticks],
        "height": figure.bottom - TOP,
        "points": [_point_data(figure, mark, factor) for mark in figure.marks],
    }


def _point_data(figure: ParetoFigure, mark: ParetoMark, factor: float) -> dict[str, Any]:
    score = mark.point.quality
    return {
        "name": mark.point.name,
        "row": mark.row_id,
        "description": mark.name,
        "score_text": f"{format_interval(score)} ({format_basis(score)})",
        "share": f"on front: {mark.share}",
        "cost": _round((mark.point.cost.value or figure.zero or 0.0) / factor),
        "score": score.estimate,
        "low": score.low,
        "high": score.high,
        "label": _score_at(figure, mark.label_y),
        "front": mark.on_front,
    }


def _score_at(figure: ParetoFigure, y: float) -> float:
    """The score at a height of the figure."""
    low, high = figure.scores
    return low + (figure.bottom - y) / (figure.bottom - TOP) * (high - low)


def _choose_unit(figure: ParetoFigure) -> tuple[str, float]:
    largest = max(mark.point.cost.value for mark in figure.marks)
    fitting = [unit for unit in _UNITS[figure.axis] if largest >= unit[1]]
    return fitting[-1] if fitting else _UNITS[figure.axis][0]


def _round(value: float) -> float:
    """Seven digits: more than was measured, and fewer bytes in the page."""
    return float(f"{value:.7g}")
