"""Charts as files: the figures of each task, and the card of a study."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from paretune.errors import StoreError
from paretune.files import make_file_name
from paretune.reporting.charts import (
    Chart,
    chart_front,
    chart_learning_curves,
    chart_memory,
    chart_model_sizes,
    chart_scores,
)
from paretune.reporting.document import Document
from paretune.reporting.rows_chart import chart_labelled_rows
from paretune.reporting.vega import Spec, base_spec, draw_file, layer


def write_card(report: Document, path: Path) -> Path:
    """A picture of 1,200 x 630 pixels for links: the result, and score against memory.

    Args:
        path: ``.png`` or ``.svg``.

    Raises:
        StoreError: it cannot be written there, or it would be of another kind.
    """
    if path.suffix not in (".png", ".svg"):
        raise StoreError(
            "a card is a PNG or SVG file.", where=str(path), remedy="Name it card.png."
        )
    headline = textwrap.wrap(
        report.sentence, 54, break_on_hyphens=False, max_lines=3, placeholder=" …"
    )
    top = 62 + 25 * len(headline)
    spec = {**base_spec([{}]), **layer("point", {"opacity": 0}, {})}
    about = [f"{report.study.name}, by paretune"]
    # Score over the first cost, of as many configurations as have room for their names.
    if task := next((task for task in report.tasks if task.fronts), None):
        front, height = task.fronts[0], 215 - 25 * len(headline)
        on_front = tuple(point for point in front.points if point.on_front)
        for points in (front.points, on_front, on_front[-4:]):
            fewer = front.model_copy(update={"points": points})
            spec = chart_front(task, fewer, 600, height).spec
            if spec["height"] <= height:
                break
        about.append(f"{task.key}: {task.metric_title}, {task.basis}")
    left, right = 52, spec.get("usermeta", {}).get("names", 20)
    title = {"text": headline, "fontSize": 21, "lineHeight": 25, "subtitle": ". ".join(about)}
    title |= {"subtitlePadding": 6}
    frame = {
        "width": 600 - left - right,
        "height": 315 - top - 48,
        "padding": {"left": left, "right": right, "top": top, "bottom": 48},
        "autosize": "none",
        "title": {**title, "subtitleFontSize": 12, "offset": 14, "dx": 20 - left, "frame": "group"},
    }
    return draw_file({**spec, **frame}, path)


def write_figures(
    report: Document, folder: Path, formats: Sequence[str] = ("png", "svg", "pdf")
) -> list[Path]:
    """Write the charts of each task in each format; returns the files.

    ``labelled-rows.png`` has the scores of all tasks over the number of labelled rows;
    ``TASK.png`` has scores beside peak memory; ``TASK-front.png`` the scores over each cost;
    ``TASK-size.png`` score and memory against model size; ``TASK-curves.png`` the learning curves.
    A chart without data is not written. The same records give the same bytes of PNG and SVG.

    Raises:
        StoreError: the folder cannot be written.
    """
    written: list[Path] = []
    rows = report.labelled_rows
    if rows is not None and (chart := chart_labelled_rows(rows)) is not None:
        spec = _join_charts([chart], "")
        for format_ in formats:
            written.append(draw_file(spec, folder / f"labelled-rows.{format_}"))
    for task in report.tasks:
        figures: dict[str, Sequence[Chart | None]] = {
            "": [chart_scores(task), chart_memory(task)],
            "-front": [chart_front(task, front) for front in task.fronts],
            "-size": [chart_model_sizes(task)],
            "-curves": [chart_learning_curves(task)],
        }
        for suffix, charts in figures.items():
            drawn = [chart for chart in charts if chart]
            spec = _join_charts(drawn, f"n = {task.basis}" if task.basis else "")
            for format_ in formats if drawn else ():
                path = folder / f"{make_file_name(task.key)}{suffix}.{format_}"
                if path in written:  # a task called like another one with a suffix
                    path = folder / f"{make_file_name(task.key, suffix)}.{format_}"
                written.append(draw_file(spec, path))
    return written


def _join_charts(charts: Sequence[Chart], basis: str) -> Spec:
    """One specification of several charts, two in a row, each with its title and note."""
    panels = []
    top = ("$schema", "config", "usermeta", "params")
    for chart in charts:
        panel = {key: value for key, value in chart.spec.items() if key not in top}
        note = "; ".join(part for part in (chart.note.rstrip("."), basis) if part)
        title: Spec = {"text": textwrap.wrap(chart.title, 60)}
        if note:
            title["subtitle"] = textwrap.wrap(note, 72)
        panels.append({**panel, "title": title})
    return {
        **base_spec([]),
        "concat": panels,
        "columns": 2,
        "padding": 12,
        "params": charts[0].spec.get("params", []) if charts else [],
        "resolve": {"scale": {"color": "independent"}},
    }
