"""The two bars of each task as pictures, for a README or a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paretune.errors import StoreError
from paretune.report import bars
from paretune.report.bars import Bar, Figure
from paretune.report.build import build
from paretune.store.record import Record
from paretune.store.rows import RunState
from paretune.study import Study

COLOURS = {
    "above": "#0072b2",
    "unclear": "#8dbbd6",
    "below": "#c4510a",
    "baseline": "#8a9097",
    "memory": "#3b8f77",
}
"""As on the page: apart for the colour-blind, and each with its own symbol beside it."""

_MEANING = {
    "above": "▲ clearly above every baseline",
    "unclear": "≈ not separable from one",
    "below": "▼ below one",
    "baseline": "baseline",
}


def figures(
    study: Study,
    records: Sequence[Record],
    states: Sequence[RunState],
    folder: Path,
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Write one picture of each format for each task that has scores; returns the files.

    Raises:
        StoreError: the folder cannot be written.
    """
    report = build(study, records, states)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, task in enumerate(report.tasks):
            panels = [p for p in (bars.quality(task, index), bars.memory(task, index)) if p]
            if panels:
                flattered = ", selected on the test part" if task.selected_on_test else ""
                note = f"n = {task.basis}; whiskers: 95 % over seeds and examples{flattered}"
                for form in formats:
                    path = folder / f"{task.key}.{form}"
                    _draw(panels, note, path)
                    written.append(path)
    except OSError as error:
        raise StoreError(
            f"pictures cannot be written ({error.strerror}).", where=str(folder)
        ) from None
    return written


def _draw(panels: Sequence[Figure], note: str, path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Patch

    # Constant ids and no date: the same records give the same file.
    settings = {"svg.hashsalt": "paretune", "font.size": 9, "hatch.linewidth": 1.2}
    with rc_context(settings):
        height = max(panel.height for panel in panels) / 72 + 0.75
        canvas = Canvas(figsize=(5.4 * len(panels), height), layout="constrained")
        axes = canvas.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel)
        kinds = {bar.kind for panel in panels for bar in panel.bars}
        keys = [Patch(color=COLOURS[k], label=text) for k, text in _MEANING.items() if k in kinds]
        if any(bar.hatched for panel in panels for bar in panel.bars):
            keys.append(
                Patch(facecolor="w", edgecolor="0.4", hatch="////", label="constant answer")
            )
        if keys:
            canvas.legend(
                handles=keys, loc="outside lower left", ncols=len(keys), frameon=False, title=note
            )
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        canvas.savefig(path, dpi=160, facecolor="white", metadata=metadata)


def _panel(axis: Any, panel: Figure) -> None:
    for bar in panel.bars:
        _bar(axis, bar, panel)
    for line in panel.lines:
        axis.plot([line.x, line.x], [line.y, line.end], color="0.35", lw=1, ls=(0, (4, 3)))
    for y, heading in panel.headings:
        axis.text(0, y, f"{_literal(heading)} ", weight="bold", ha="right", va="center")
    axis.set_title(_literal(panel.title), loc="left", fontsize=10, weight="bold")
    labels = [_literal(bar.label) for bar in panel.bars]
    axis.set_yticks([bar.y + 11 for bar in panel.bars], labels)
    axis.set_xticks([x for x, _ in panel.ticks], [text for _, text in panel.ticks])
    axis.set_xlim(0, panel.ticks[-1][0] * 1.02)
    axis.set_ylim(panel.bottom, 0)
    axis.tick_params(length=0)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _bar(axis: Any, bar: Bar, panel: Figure) -> None:
    middle, end = bar.y + 11, panel.ticks[-1][0] * 1.05
    if bar.length is None:
        axis.text(4, middle, _literal(bar.note), va="center", color="0.4", fontsize=8)
        return
    axis.barh(
        middle,
        bar.length,
        height=13,
        color=COLOURS[bar.kind],
        hatch="////" if bar.hatched else None,
        edgecolor="white",
        linewidth=0,
    )
    if bar.whisker:
        low, high = bar.whisker
        error = [[max(bar.length - low, 0)], [max(high - bar.length, 0)]]
        axis.errorbar(bar.length, middle, xerr=error, color="0.1", lw=1, capsize=2)
    axis.text(end, middle, bar.value, va="center", clip_on=False)


def _literal(text: str) -> str:
    """Without dollar signs that matplotlib would take for mathematics."""
    return text.replace("$", r"\$")
