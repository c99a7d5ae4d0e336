"""The bars of each task as pictures, for a README or a paper: quality, memory, where bytes go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paretune.errors import StoreError
from paretune.report import bars, stacks
from paretune.report.bars import Bar, Figure
from paretune.report.build import build
from paretune.report.heavier import bytes_grid
from paretune.store.record import Record
from paretune.store.rows import RunState
from paretune.study import Study

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
"""As on the page: apart for the colour-blind, and each with its own symbol beside it."""

_MEANING = {
    "above": "▲ clearly above every baseline",
    "unclear": "≈ not separable from one",
    "below": "▼ below one",
    "baseline": "baseline",
}


_DATED = {".svg": "Date", ".pdf": "CreationDate"}
"""What a format's metadata calls its date."""


def figures(
    study: Study,
    records: Sequence[Record],
    states: Sequence[RunState],
    folder: Path,
    formats: Sequence[str] = ("png", "svg", "pdf"),
) -> list[Path]:
    """Write the pictures of each task in each format; returns the files.

    ``TASK.png`` has quality beside peak memory, for a task that has scores; ``TASK-bytes.png`` has
    where the bytes of training go, where that was counted. The same records give the same bytes.

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
                written += _save(panels, note, _MEANING, folder / task.key, formats)
            if stack := stacks.memory_stack(task, index):
                counted = bytes_grid(task.weighed)
                note = counted.above if counted else ""
                beside = folder / f"{task.key}-bytes"
                written += _save([stack], note, stacks.KINDS, beside, formats)
    except OSError as error:
        raise StoreError(
            f"pictures cannot be written ({error.strerror}).", where=str(folder)
        ) from None
    return written


def _save(
    panels: Sequence[Figure],
    note: str,
    meaning: Mapping[str, str],
    beside: Path,
    formats: Sequence[str],
) -> list[Path]:
    """One picture in each format; ``beside`` is its path without the format's suffix."""
    paths = [beside.with_name(f"{beside.name}.{form}") for form in formats]
    for path in paths:
        _draw(panels, note, meaning, path)
    return paths


def _draw(panels: Sequence[Figure], note: str, meaning: Mapping[str, str], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Patch

    # Constant ids and no date: the same records give the same file. Type 42: a PDF's fonts are
    # inside it as TrueType, so its text can be searched and copied.
    settings = {
        "svg.hashsalt": "paretune",
        "font.size": 9,
        "hatch.linewidth": 1.2,
        "pdf.fonttype": 42,
    }
    with rc_context(settings):
        height = max(panel.height for panel in panels) / 72 + 0.75
        canvas = Canvas(figsize=(5.4 * len(panels), height), layout="constrained")
        axes = canvas.subplots(1, len(panels), squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel)
        every = [bar for panel in panels for bar in panel.bars]
        kinds = {kind for bar in every for kind, _, _ in bar.stacked}
        keys = [Patch(color=COLOURS[k], label=text) for k, text in meaning.items() if k in kinds]
        if any(bar.hatched for bar in every):
            keys.append(
                Patch(facecolor="w", edgecolor="0.4", hatch="////", label="constant answer")
            )
        if keys:
            canvas.legend(
                handles=keys,
                loc="outside lower left",
                ncols=min(len(keys), 3 * len(panels)),
                frameon=False,
                title=note,
            )
        metadata = {_DATED[path.suffix]: None} if path.suffix in _DATED else {}
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


def _literal(text: str) -> str:
    """Without dollar signs that matplotlib would take for mathematics."""
    return text.replace("$", r"\$")
