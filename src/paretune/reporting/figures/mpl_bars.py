"""Draw bar figures with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paretune.reporting.figures.bars import Bar, BarFigure
from paretune.reporting.figures.mpl_canvas import escape_mathtext, open_canvas

COLOURS = {
    "above": "#0072b2",
    "unclear": "#8dbbd6",
    "below": "#c4510a",
    "baseline": "#8a9097",
    "memory": "#3b8f77",
    "weights": "#0072b2",
    "gradients": "#e69f00",
    "optimizer": "#cc79a7",
    "activations": "#009e73",
    "working": "#009e73",
    "rest": "#8a9097",
}
"""As on the page; distinguishable for colour-blind readers, and each has a symbol too."""

STANDING_TITLES = {
    "above": "▲ better than every baseline",
    "unclear": "≈ undecided against a baseline",
    "below": "▼ worse than a baseline",
    "baseline": "baseline",
}


def draw_bars(
    panels: Sequence[BarFigure], note: str, titles: Mapping[str, str], path: Path
) -> None:
    """Draw bar figures side by side.

    Args:
        titles: of the kinds of bars and segments, for the legend.
    """
    from matplotlib.patches import Patch

    height = max(panel.height for panel in panels) / 72 + 0.75
    with open_canvas(path, 5.4 * len(panels), height) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel)
        every = [bar for panel in panels for bar in panel.bars]
        kinds = {kind for bar in every for kind, _, _ in bar.stacked}
        keys = [Patch(color=COLOURS[k], label=text) for k, text in titles.items() if k in kinds]
        if any(bar.hatched for bar in every):
            keys.append(
                Patch(facecolor="w", edgecolor="0.4", hatch="////", label="constant answer")
            )
        if keys:
            figure.legend(
                handles=keys,
                loc="outside lower left",
                ncols=min(len(keys), 3 * len(panels)),
                frameon=False,
                title=note,
            )


def _panel(axis: Any, panel: BarFigure) -> None:
    for bar in panel.bars:
        _bar(axis, bar, panel)
    for line in panel.lines:
        axis.plot([line.x, line.x], [line.y, line.end], color="0.35", lw=1, ls=(0, (4, 3)))
    for y, heading in panel.headings:
        axis.text(0, y, f"{escape_mathtext(heading)} ", weight="bold", ha="right", va="center")
    axis.set_title(escape_mathtext(panel.title), loc="left", fontsize=10, weight="bold")
    labels = [escape_mathtext(bar.label) for bar in panel.bars]
    axis.set_yticks([bar.y + 11 for bar in panel.bars], labels)
    axis.set_xticks([x for x, _ in panel.ticks], [text for _, text in panel.ticks])
    axis.set_xlim(0, panel.ticks[-1][0] * 1.02)
    axis.set_ylim(panel.bottom, 0)
    axis.tick_params(length=0)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _bar(axis: Any, bar: Bar, panel: BarFigure) -> None:
    middle, end = bar.y + 11, panel.ticks[-1][0] * 1.05
    if bar.length is None:
        axis.text(4, middle, escape_mathtext(bar.note), va="center", color="0.4", fontsize=8)
        return
    for kind, start, length in bar.stacked:
        axis.barh(
            middle,
            length,
            left=start,
            height=13,
            color=COLOURS[kind],
            hatch="////" if bar.hatched else None,
            edgecolor="white",
            linewidth=0,
        )
    if bar.whisker:
        low, high = bar.whisker
        error = [[max(bar.length - low, 0)], [max(high - bar.length, 0)]]
        axis.errorbar(bar.length, middle, xerr=error, color="0.1", lw=1, capsize=2)
    axis.text(end, middle, bar.value, va="center", clip_on=False)
