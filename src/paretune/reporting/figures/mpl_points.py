"""Draw the Pareto figures, and those of score and memory against model size, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paretune.analysis.pareto.costs import AXIS_TITLES
from paretune.reporting.figures import model_size, pareto
from paretune.reporting.figures.model_size import ModelSizeFigure, SizePoint
from paretune.reporting.figures.mpl_canvas import escape_mathtext, open_canvas, set_ticks
from paretune.reporting.figures.pareto import ParetoFigure

_BLUE, _GREY, _FAINT = "#0072b2", "#8a9097", "0.85"


def draw_pareto(figures: Sequence[ParetoFigure], metric: str, note: str, path: Path) -> None:
    """One panel for each cost of a task; configurations on the front are filled."""
    rows = -(-len(figures) // 2)
    columns = min(len(figures), 2)
    height = sum(max(p.height for p in figures[2 * i : 2 * i + 2]) for i in range(rows)) / 72
    with open_canvas(path, 5.4 * columns, height * 0.85 + 0.9) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, pareto_figure in zip(axes, figures, strict=False):
            _draw_cost(axis, pareto_figure, metric)
        for axis in axes[len(figures) :]:
            axis.set_visible(False)
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8)


def _draw_cost(axis: Any, panel: ParetoFigure, metric: str) -> None:
    right = pareto.LEFT + pareto.PLOT
    on_front = [mark for mark in panel.marks if mark.on_front]
    xs, ys = [m.x for m in on_front] + [right], [m.y for m in on_front] + [on_front[-1].y]
    axis.step(xs, ys, where="post", color=_BLUE, lw=1, ls=(0, (2, 2)))
    for mark in panel.marks:
        colour = _BLUE if mark.on_front else _GREY
        axis.plot([mark.x, right + 8], [mark.y, mark.label_y], color=_FAINT, lw=0.8, clip_on=False)
        axis.plot([mark.x, mark.x], [mark.low, mark.high], color="0.1", lw=1)
        face = colour if mark.on_front else "white"
        axis.plot(mark.x, mark.y, "o", ms=5.5, mec=colour, mfc=face, mew=1.5, zorder=3)
        axis.text(right + 11, mark.label_y, escape_mathtext(mark.label), va="center", fontsize=8)
    axis.set_title(escape_mathtext(panel.title), loc="left", fontsize=10, weight="bold")
    axis.set_xlabel(f"{AXIS_TITLES[panel.axis]}{', logarithmic' if panel.logarithmic else ''}")
    axis.set_ylabel(escape_mathtext(metric))
    set_ticks(axis, panel.x_ticks, panel.y_ticks)
    axis.set_xlim(pareto.LEFT, right)
    axis.set_ylim(panel.bottom, pareto.TOP)
    axis.grid(axis="y", color="0.9")


_COLUMNS = 5


def draw_model_sizes(sizes: ModelSizeFigure, note: str, path: Path) -> None:
    """For each method of a task a column: scores above, peak memory below."""
    quantities = 2 if sizes.memory_ticks else 1
    columns = min(len(sizes.panels), _COLUMNS)
    rows = -(-len(sizes.panels) // columns) * quantities
    with open_canvas(path, max(2.1 * columns, 5.0), 2.1 * rows + 0.7) as figure:
        axes = figure.subplots(rows, columns, squeeze=False)
        for place in range(rows // quantities * columns):
            row, column = place // columns * quantities, place % columns
            pair = [axes[row + quantity][column] for quantity in range(quantities)]
            if place < len(sizes.panels):
                _draw_method(pair, sizes, place)
            else:
                for axis in pair:
                    axis.set_visible(False)
        figure.supxlabel(f"parameters, logarithmic; {note}", x=0.01, ha="left", fontsize=8)


def _draw_method(axes: Sequence[Any], sizes: ModelSizeFigure, place: int) -> None:
    """One method: scores on the first of ``axes``, peak memory on the second."""
    panel = sizes.panels[place]
    for quantity, axis in enumerate(axes):
        for other in sizes.panels:
            _draw_line(axis, (other.scores, other.memory)[quantity], _FAINT)
        points = (panel.scores, panel.memory)[quantity]
        _draw_line(axis, points, _BLUE)
        for point in points:
            if point.low is not None:
                axis.plot([point.x, point.x], [point.low, point.high], color="0.1", lw=1)
            axis.plot(point.x, point.y, "o", ms=4.5, color=_BLUE, zorder=3)
        set_ticks(axis, sizes.x_ticks, (sizes.score_ticks, sizes.memory_ticks)[quantity])
        axis.set_xlim(model_size.LEFT, model_size.RIGHT)
        axis.set_ylim(
            *((model_size.MIDDLE, model_size.TOP), (model_size.BOTTOM, model_size.LOWER))[quantity]
        )
        axis.grid(axis="y", color="0.9")
        if place % _COLUMNS == 0:
            axis.set_ylabel(("score", "peak memory")[quantity])
    axes[0].set_title(escape_mathtext(panel.title), loc="left", fontsize=9, weight="bold")


def _draw_line(axis: Any, points: Sequence[SizePoint], colour: str) -> None:
    axis.plot([p.x for p in points], [p.y for p in points], color=colour, lw=1.2)
