"""The front over every cost, and score and memory against model size, as pictures for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paretune.analysis.pareto.costs import AXIS_TITLES
from paretune.reporting.figures import model_size, pareto
from paretune.reporting.figures.model_size import ModelSizes, SizePoint
from paretune.reporting.figures.mpl_canvas import escape_mathtext, open_canvas
from paretune.reporting.figures.pareto import ParetoFigure

_BLUE, _GREY, _FAINT = "#0072b2", "#8a9097", "0.85"
_COLUMNS = 5


def draw_pareto(pictures: Sequence[ParetoFigure], metric: str, note: str, path: Path) -> None:
    """One panel for each cost; configurations on the front are filled.

    Args:
        pictures: of one task.
        metric: what the scores are.
        note: what the scores stand on.
        path: of the file.
    """
    rows = -(-len(pictures) // 2)
    columns = min(len(pictures), 2)
    height = sum(max(p.height for p in pictures[2 * i : 2 * i + 2]) for i in range(rows)) / 72
    with open_canvas(path, 5.4 * columns, height * 0.85 + 0.9) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, picture in zip(axes, pictures, strict=False):
            _front(axis, picture, metric)
        for axis in axes[len(pictures) :]:
            axis.set_visible(False)
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8)


def _front(axis: Any, picture: ParetoFigure, metric: str) -> None:
    right = pareto.LEFT + pareto.PLOT
    there = [mark for mark in picture.marks if mark.on_front]
    xs, ys = [m.x for m in there] + [right], [m.y for m in there] + [there[-1].y]
    axis.step(xs, ys, where="post", color=_BLUE, lw=1, ls=(0, (2, 2)))
    for mark in picture.marks:
        colour = _BLUE if mark.on_front else _GREY
        axis.plot([mark.x, right + 8], [mark.y, mark.label_y], color=_FAINT, lw=0.8, clip_on=False)
        axis.plot([mark.x, mark.x], [mark.low, mark.high], color="0.1", lw=1)
        face = colour if mark.on_front else "white"
        axis.plot(mark.x, mark.y, "o", ms=5.5, mec=colour, mfc=face, mew=1.5, zorder=3)
        axis.text(right + 11, mark.label_y, escape_mathtext(mark.label), va="center", fontsize=8)
    axis.set_title(escape_mathtext(picture.title), loc="left", fontsize=10, weight="bold")
    axis.set_xlabel(f"{AXIS_TITLES[picture.axis]}{', logarithmic' if picture.logarithmic else ''}")
    axis.set_ylabel(escape_mathtext(metric))
    _ticks(axis, picture.x_ticks, picture.y_ticks)
    axis.set_xlim(pareto.LEFT, right)
    axis.set_ylim(picture.bottom, pareto.TOP)
    axis.grid(axis="y", color="0.9")


def draw_model_sizes(shown: ModelSizes, note: str, path: Path) -> None:
    """For each method a column: scores above, peak memory below.

    Args:
        shown: of one task.
        note: what the scores stand on.
        path: of the file.
    """
    kinds = 2 if shown.memory_ticks else 1
    columns = min(len(shown.panels), _COLUMNS)
    rows = -(-len(shown.panels) // columns) * kinds
    with open_canvas(path, max(2.1 * columns, 5.0), 2.1 * rows + 0.7) as figure:
        axes = figure.subplots(rows, columns, squeeze=False)
        for place in range(rows // kinds * columns):
            row, column = place // columns * kinds, place % columns
            pair = [axes[row + kind][column] for kind in range(kinds)]
            if place < len(shown.panels):
                _size(pair, shown, place)
            else:
                for axis in pair:
                    axis.set_visible(False)
        figure.supxlabel(f"parameters, logarithmic; {note}", x=0.01, ha="left", fontsize=8)


def _size(axes: Sequence[Any], shown: ModelSizes, place: int) -> None:
    """One method: scores on the first of ``axes``, peak memory on the second."""
    panel = shown.panels[place]
    for kind, axis in enumerate(axes):
        for other in shown.panels:
            _line(axis, (other.scores, other.memory)[kind], _FAINT)
        spots = (panel.scores, panel.memory)[kind]
        _line(axis, spots, _BLUE)
        for spot in spots:
            if spot.low is not None:
                axis.plot([spot.x, spot.x], [spot.low, spot.high], color="0.1", lw=1)
            axis.plot(spot.x, spot.y, "o", ms=4.5, color=_BLUE, zorder=3)
        _ticks(axis, shown.x_ticks, (shown.score_ticks, shown.memory_ticks)[kind])
        axis.set_xlim(model_size.LEFT, model_size.RIGHT)
        axis.set_ylim(
            *((model_size.MIDDLE, model_size.TOP), (model_size.BOTTOM, model_size.LOWER))[kind]
        )
        axis.grid(axis="y", color="0.9")
        if place % _COLUMNS == 0:
            axis.set_ylabel(("score", "peak memory")[kind])
    axes[0].set_title(escape_mathtext(panel.title), loc="left", fontsize=9, weight="bold")


def _line(axis: Any, spots: Sequence[SizePoint], colour: str) -> None:
    axis.plot([s.x for s in spots], [s.y for s in spots], color=colour, lw=1.2)


def _ticks(axis: Any, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]]) -> None:
    axis.set_xticks([at for at, _ in x], [text for _, text in x])
    axis.set_yticks([at for at, _ in y], [text for _, text in y])
    axis.tick_params(length=2, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
