"""Draw the figure of score and memory against model size with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paretune.reporting.figures import model_size
from paretune.reporting.figures.model_size import ModelSizeFigure, SizePoint
from paretune.reporting.figures.mpl_canvas import escape_mathtext, open_canvas, set_ticks

_BLUE, _FAINT = "#0072b2", "0.85"
_COLUMNS = 5


def draw_model_sizes(sizes: ModelSizeFigure, note: str, path: Path) -> None:
    """For each method a column: scores above, peak memory below.

    Args:
        sizes: of one task.
        note: what the scores are computed on.
        path: of the file.
    """
    quantities = 2 if sizes.memory_ticks else 1
    columns = min(len(sizes.panels), _COLUMNS)
    rows = -(-len(sizes.panels) // columns) * quantities
    with open_canvas(path, max(2.1 * columns, 5.0), 2.1 * rows + 0.7) as figure:
        axes = figure.subplots(rows, columns, squeeze=False)
        for place in range(rows // quantities * columns):
            row, column = place // columns * quantities, place % columns
            pair = [axes[row + quantity][column] for quantity in range(quantities)]
            if place < len(sizes.panels):
                _draw_panel(pair, sizes, place)
            else:
                for axis in pair:
                    axis.set_visible(False)
        figure.supxlabel(f"parameters, logarithmic; {note}", x=0.01, ha="left", fontsize=8)


def _draw_panel(axes: Sequence[Any], sizes: ModelSizeFigure, place: int) -> None:
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
