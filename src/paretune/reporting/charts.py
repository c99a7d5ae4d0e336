"""The charts of a report: one Vega-Lite specification each, as plain dicts.

The page shows them as SVG and lets its reader play with the front; ``write_figures`` makes PNG, SVG
and PDF of them. All numbers are those of the report. Colours are the CSS variables of the page, so
that one specification serves its light and its dark theme; files get :data:`COLOURS`.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.pareto.costs import AXIS_TITLES, LINEAR_AXES, Axis
from paretune.analysis.pareto.front import ParetoPoint
from paretune.errors import StoreError
from paretune.file_names import make_file_name
from paretune.methods.baselines import CONSTANT
from paretune.reporting.model import Report, TaskReport
from paretune.reporting.rows import Row
from paretune.reporting.tables.pareto_table import AxisFront
from paretune.reporting.text.cost_amounts import format_cost
from paretune.reporting.text.formatting import (
    format_basis,
    format_bytes,
    format_estimate,
    format_interval,
    format_parameters,
    format_share,
)
from paretune.reporting.writing import write_file
from paretune.store.record import Record

Spec = dict[str, Any]

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
    "rest": "#8a9097",
    "page": "#ffffff",
    "text": "#1d2125",
    "soft": "#59626b",
    "rule": "#d9dcdf",
    "faint": "#f1f2f2",
    "ink": "#1d2125",
}
"""The light theme of the page; distinguishable for colour-blind readers."""
STANDINGS = {
    "above": "▲ better than every baseline",
    "unclear": "≈ undecided against a baseline",
    "below": "▼ worse than a baseline",
    "baseline": "baseline (dashed line: its score)",
}
PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser states",
    "activations": "activations",
    "rest": "the rest",
    "working": "activations and the rest",
}
"""Parts of peak memory, with their titles."""
_UNITS: dict[Axis, tuple[tuple[str, float], ...]] = {
    "memory": (("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30)),
    "saved": (("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30)),
    "time": (("s", 1.0), ("min", 60.0), ("h", 3600.0)),
    "parameters": (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)),
    "inference": (("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)),
    "forgetting": (("nats", 1.0),),
}
"""Units of a cost, smallest first; a chart takes the one that suits its largest value."""
_SYMBOLS = {"above": " ▲", "unclear": " ≈", "below": " ▼"}
_BAR_WIDTH, _PANEL = 400, 130
_LETTER = 6.3
"""Width of a character in pixels, rounded up."""
_NO_BUDGET = 1e300


@dataclass(frozen=True)
class Chart:
    """A specification with its words; ``description`` says all that a reader cannot see."""

    title: str
    note: str
    description: str
    spec: Spec


def chart_scores(task: TaskReport) -> Chart | None:
    """Scores with whiskers on an axis from 0; dashed lines carry baselines through the others."""
    bare = [r for r in task.baselines if r.cell.model == NO_MODEL and r.interval]
    groups = _group_by_model(task, lambda row: row.interval is not None or bool(row.cell.final))
    lines = _stack_lines([*([("baselines", bare)] if bare else []), *groups], _score_line)
    if not lines:
        return None
    for line in lines:
        if line.get("kind") and (line["heading"] == "baselines" or line["untuned"]):
            below = [o["place"] for o in lines if o.get("heading") == line["heading"]]
            whole = line["heading"] == "baselines"
            line |= {"from": line["place"] if whole else min(below)}
            line |= {"to": len(lines) - 1 if whole else max(below)}
    highest = max([r.interval.high for r in task.all_rows if r.interval] or [1.0])
    bounded = task.highest <= 1
    x = _quantity("value", [0, 1] if bounded else [0, highest], nice=not bounded)
    dashes = _layer(
        "rule",
        {"color": _colour("soft"), "strokeDash": [4, 3]},
        {"x": x, "y": _place("from", 0.0), "y2": {"field": "to", "bandPosition": 1.0}},
        where="isValid(datum.from)",
    )
    scope = f"Mean over seeds, 95 % interval over {task.interval_scope}"
    selected = "; selected on the test part" if task.selected_on_test else ""
    constant = any(line.get("constant") for line in lines)
    pale = "; pale: every example gets the same answer" if constant else ""
    layers = [_bar_layer(x, STANDINGS, lines), _whisker_layer(x), dashes]
    return Chart(
        f"Quality on {task.key}: {task.metric}",
        f"{scope}{selected}{pale}",
        _describe(lines),
        _bars(lines, layers),
    )


def chart_memory(task: TaskReport) -> Chart | None:
    """Peak memory in training, one solo measurement each unless a range is drawn."""
    groups = _group_by_model(task, lambda row: bool(row.cell.cost))
    sizes = [row.cost.memory for _, rows in groups for row in rows]
    known = [end for size in sizes for end in (size.value, size.high) if end]
    if not known:
        return None
    unit, factor = _choose_unit("memory", known)
    lines = _stack_lines(groups, partial(_memory_line, factor=factor))
    x = _quantity("value", None, title=unit)
    return Chart(
        f"Peak memory in training on {task.key}",
        "One measurement each, alone in a fresh process",
        _describe(lines),
        _bars(lines, [_bar_layer(x, {"memory": ""}, lines), _whisker_layer(x)]),
    )


def chart_memory_parts(task: TaskReport) -> Chart | None:
    """Peak memory by part, stacked; None where no part of any cell is known."""
    groups = _group_by_model(task, lambda row: row.memory is not None and bool(row.memory.peak))
    peaks = [row.memory.peak or 0.0 for _, rows in groups for row in rows if row.memory]
    if not peaks:
        return None
    unit, factor = _choose_unit("memory", peaks)
    lines = _stack_lines(groups, _parts_line)
    parts = [
        {"place": line["place"], "kind": kind, "start": start / factor, "end": end / factor}
        for line in lines
        for kind, start, end in line.pop("parts", ())
    ]
    if not parts:
        return None
    x = _quantity("start", None, title=unit)
    layer = _bar_layer(x, PARTS, parts)
    layer |= {"data": {"values": parts}}
    layer["encoding"] |= {"x2": {"field": "end"}}
    return Chart(
        f"Peak memory in training on {task.key}, by its parts",
        task.memory_table.above if task.memory_table else "",
        _describe(lines),
        _bars(lines, [layer]),
    )


def chart_fronts(task: TaskReport) -> tuple[Chart, ...]:
    """Scores over each cost, with the front and a budget; empty where the task has no front."""
    fronts = task.pareto.fronts if task.pareto else ()
    return tuple(_chart_front(task, front) for front in fronts)


def _chart_front(
    task: TaskReport, front: AxisFront, width: float = 520, least_height: float = 280
) -> Chart:
    """Score over one cost, at least as high as its names need.

    The parameter ``budget`` shades what costs more. ``usermeta`` has what a script says of it: the
    axis, its unit and the pixels of the names at the right.
    """
    titles = [row.row.title for row in task.pareto.rows] if task.pareto else []
    values = [point.cost.value for point in front.points]
    unit, factor = _choose_unit(front.axis, values)
    zero = None if front.axis in LINEAR_AXES else _place_of_zero(values)
    costs = [(value or zero or 0.0) / factor for value in values]
    logarithmic = front.axis not in LINEAR_AXES and max(costs) > 20 * min(costs) > 0
    domain = _widen(min(costs), max(costs), logarithmic)
    low = min(point.quality.low for point in front.points)
    high = max(point.quality.high for point in front.points)
    margin = (0.04 * (high - low)) or 0.05
    bottom, top = low - margin, high + margin
    names = [textwrap.wrap(point.name, 22) or [point.name] for point in front.points]
    line = 13 * max(map(len, names)) + 4
    height = max(least_height, line * len(names))
    scores = [point.quality.estimate for point in front.points]
    labels = _spread(scores, line / height * (top - bottom), bottom, top)
    points = [
        {
            "name": point.name,
            "row": titles.index(point.name),
            "lines": lines,
            "description": _describe_point(front.axis, point),
            "score_text": f"{format_interval(point.quality)} ({format_basis(point.quality)})",
            "cost": _round(cost),
            "score": point.quality.estimate,
            "low": point.quality.low,
            "high": point.quality.high,
            "label": _round(label),
            "front": point.on_front,
        }
        for point, lines, cost, label in zip(front.points, names, costs, labels, strict=True)
    ]
    stairs = [{"cost": p["cost"], "score": p["score"]} for p in points if p["front"]]
    stairs.append({"cost": domain[1], "score": stairs[-1]["score"]})
    title = AXIS_TITLES[front.axis]
    axis: Spec = {"title": title + (f", {unit}" if unit else ""), "grid": False, "tickCount": 5}
    axis |= {"labelFlush": True, "labelOverlap": "greedy", "format": "~r"}
    if zero is not None:
        # On a logarithmic axis costs of 0 stand at a place of their own, and its label says so.
        place = zero / factor
        powers = range(1, math.floor(math.log10(domain[1] / place)) + 1)
        axis |= {
            "values": [place, *(place * 10.0**power for power in powers)],
            "labelExpr": f"datum.value < {2 * place} ? '0' : datum.label",
        }
    scale = {"type": "log"} if logarithmic else {"type": "linear", "zero": False}
    x = {
        "field": "cost",
        "type": "quantitative",
        "scale": {**scale, "domain": domain, "nice": False, "clamp": True},
        "axis": axis,
    }
    y = {
        "field": "score",
        "type": "quantitative",
        "scale": {"domain": [bottom, top], "nice": False, "zero": False},
        "axis": {"title": None, "domain": False, "ticks": False, "tickCount": 5},
    }
    edge = {"value": "width"}
    faded = {"condition": {"test": "datum.cost > budget", "value": 0.3}, "value": 1}
    on_front = {"test": "datum.front", "value": _colour("above")}
    shade = {"x": _field("from"), "x2": {"field": "end"}}
    beyond = {"calculate": "min(budget, datum.end)", "as": "from"}
    stairs_style = {"interpolate": "step-after", "strokeWidth": 1.5, "strokeDash": [2, 3]}
    # One layer has the scales and axes; they hold for all.
    at = {"x": _field("cost"), "y": _field("score"), "opacity": faded}
    whisker = {**at, "y": _field("low"), "y2": {"field": "high"}}
    fill = {"condition": on_front, "value": _colour("page")}
    stroke = {"condition": on_front, "value": _colour("baseline")}
    label = {**at, "x": edge, "y": _field("label"), "text": {"field": "lines"}}
    tip = {"x": x, "y": y, "tooltip": {"field": "description"}}
    layers: list[Spec] = [
        {
            **_layer("rect", {"color": _colour("faint")}, shade),
            "data": {"values": [{"end": domain[1]}]},
            "transform": [beyond],
        },
        _layer("rule", {"color": _colour("rule")}, {**at, "x2": edge, "y2": {"field": "label"}}),
        {
            **_layer("line", {"color": _colour("above"), **stairs_style}, at),
            "data": {"values": stairs},
        },
        _layer("rule", {"color": _colour("ink"), "strokeWidth": 1.25}, whisker),
        _layer("point", {"size": 75, "strokeWidth": 2}, {**at, "fill": fill, "stroke": stroke}),
        _layer("text", {**_words("lines"), "dx": 8}, label),
        _layer("circle", {"size": 900, "opacity": 0}, tip),  # what a finger or a pointer finds
    ]
    room = round(max(len(line) for lines in names for line in lines) * _LETTER) + 20
    on_test = "; selected on the test part" if task.selected_on_test else ""
    return Chart(
        f"Score over {title}{' (logarithmic)' if logarithmic else ''}",
        f"Filled: no other method is both cheaper and better, by the estimates. Whiskers: 95 % "
        f"over {task.interval_scope}{on_test}",
        " ".join(f"{point['description']}." for point in points),
        {
            **_base(points, layers),
            "width": round(width - room - 50),
            "height": round(height),
            "params": [{"name": "budget", "value": _NO_BUDGET}],
            "usermeta": {"axis": title, "unit": unit, "log": logarithmic, "names": room},
        },
    )


def chart_model_sizes(task: TaskReport) -> Chart | None:
    """Score and memory against model size, a panel for each method, the other methods faint."""
    sizes = task.model_sizes
    if sizes is None:
        return None
    rows = [(place, row) for place, (_, rows) in enumerate(sizes.methods) for row in rows]
    unit, factor = _choose_unit("memory", [row.cost.memory.value or 0.0 for _, row in rows])
    points, texts = [], []
    for place, row in rows:
        score, memory = row.interval, row.cost.memory
        assert score is not None  # noqa: S101 - only scored rows are compared
        parameters = sizes.size_of(row)
        points.append(
            {
                "place": place,
                "parameters": parameters,
                "score": score.estimate,
                "low": score.low,
                "high": score.high,
                **_in_unit(factor, memory=memory.value, least=memory.low, most=memory.high),
            }
        )
        texts.append(
            f"{row.title}, {format_parameters(parameters)} parameters: {format_interval(score)} "
            f"({format_basis(score)}), {memory.text}."
        )
    counts = sorted({point["parameters"] for point in points})
    x = {
        "field": "parameters",
        "type": "quantitative",
        "scale": {"type": "log", "domain": _widen(counts[0], counts[-1], logarithmic=True)},
        "axis": {"title": None, "grid": False, "values": [counts[0], counts[-1]], "format": ".3~s"},
    }
    quantities = [("score", "low", "high", "", False)]
    if any(point.get("memory") for point in points):
        quantities.append(("memory", "least", "most", unit, True))
    panels = []
    for place, (name, _) in enumerate(sizes.methods):
        charts = []
        for field, low, high, title, zero in quantities:
            ends = [p[key] for p in points for key in (field, low, high) if p.get(key) is not None]
            domain = [0 if zero else min(ends), max(ends)]
            y = _quantity(field, domain, title=title, zero=zero, nice=True)
            layers = _size_layers(x, y, (low, high), place)
            charts.append({"width": _PANEL, "height": 90, "layer": layers})
        panels.append({"vconcat": charts, "title": _panel_title(name), "spacing": 8})
    return Chart(
        "Score and memory against model size",
        f"Above: {task.metric}, mean over seeds with 95 %; below: peak memory in training. "
        "Across: parameters, logarithmic. Faint: the other methods",
        " ".join(texts),
        {**_base(points), "concat": panels, "columns": 4},
    )


def chart_learning_curves(task: TaskReport) -> Chart | None:
    """Selection score over steps, one line for each seed; None where no run has two points.

    For generated texts the selection loss: texts are generated only at the end of a run.
    """
    loss = task.generates
    curves = [
        (row, of_row)
        for row in task.all_rows
        if (of_row := [c for r in row.cell.final if len(c := list(_read_curve(r, loss))) > 1])
    ]
    if not curves:
        return None
    values = [value for _, of_row in curves for curve in of_row for _, value in curve]
    low, high = (min(values), max(values)) if loss else (0.0, 1.0)
    quantity = "loss" if loss else "score"
    y = _quantity(quantity, [low, high], nice=loss)
    y["axis"]["tickCount"] = 2
    panels, texts = [], []
    for row, of_row in curves:
        points = [
            {"seed": seed, "step": step, quantity: value}
            for seed, curve in enumerate(of_row)
            for step, value in curve
        ]
        steps = max(point["step"] for point in points)
        axis = {"title": None, "values": [steps], "labelExpr": "datum.label + ' steps'"}
        x = _quantity("step", [0, steps]) | {"axis": {**axis, "labelFlush": True, "grid": False}}
        seeds = {"detail": {"field": "seed", "type": "nominal"}}
        line = {"color": _colour("above"), "opacity": 0.8}
        panels.append(
            {
                "data": {"values": points},
                "title": _panel_title(row.title),
                "width": _PANEL,
                "height": 64,
                **_layer("line", line, {"x": x, "y": y, **seeds}),
            }
        )
        ends = ", ".join(f"{curve[-1][1]:.2f}" for curve in of_row)
        texts.append(
            f"Selection {quantity} of {row.title} over {steps} steps; the seeds end at {ends}."
        )
    caption = "Selection score, 0 to 1, over training steps; one line for each seed."
    if loss:
        caption = (
            "Selection loss, nats a token, over training steps; one line for each seed. The axis "
            f"runs from {low:.2f} to {high:.2f} in every panel."
        )
    spec = {**_base([]), "concat": panels, "columns": 4}
    return Chart("Learning curves", caption, " ".join(texts), spec)


_SURPLUS = re.compile(
    r' (?:class|role|aria-[a-z]+|pointer-events|font-family)="[^"]*"| opacity="1"'
)
_DIGITS = re.compile(r"(\d\.\d\d)\d+")
_EMPTY = re.compile(r'<path d="(?:M0,0h0v0h0Z)?"(?: display="none")?/>')
"""What Vega writes and no page needs: most of a small chart's bytes."""


def draw_svg(chart: Chart) -> str:
    """The chart as SVG for a page: in the colours of its CSS variables and in its font."""
    # Imported where it is used: 80 MB of shared object that a report on a terminal does not need.
    import vl_convert

    svg = vl_convert.vegalite_to_svg({**chart.spec, "background": None})
    svg = re.sub(r"<[^>]*>", lambda tag: _SURPLUS.sub("", _DIGITS.sub(r"\1", tag[0])), svg)
    return _EMPTY.sub("", svg)


def draw_file(spec: Spec, path: Path, scale: float = 2.0) -> Path:
    """Write a specification as the file that its suffix names: ``.png``, ``.svg`` or ``.pdf``."""
    import vl_convert

    text = json.dumps(spec)
    for name, colour in COLOURS.items():
        text = text.replace(_colour(name), colour)
    convert = {
        ".png": partial(vl_convert.vegalite_to_png, scale=scale),
        ".svg": vl_convert.vegalite_to_svg,
        ".pdf": vl_convert.vegalite_to_pdf,
    }
    return write_file(path, convert[path.suffix](text), "the figure")


def write_card(report: Report, sentence: str, path: Path) -> Path:
    """A picture of 1,200 x 630 pixels for links: the result, and score against memory.

    Args:
        sentence: the result of the study.
        path: ``.png`` or ``.svg``.

    Raises:
        StoreError: it cannot be written there, or it would be of another kind.
    """
    if path.suffix not in (".png", ".svg"):
        raise StoreError(
            "a card is a PNG or SVG file.", where=str(path), remedy="Name it card.png."
        )
    headline = textwrap.wrap(sentence, 54, max_lines=3, placeholder=" …")
    top = 62 + 25 * len(headline)
    chart = _chart_card(report.tasks, 215 - 25 * len(headline))
    spec = chart.spec if chart else {**_base([{}]), **_layer("point", {"opacity": 0}, {})}
    left, right = 52, spec.get("usermeta", {}).get("names", 20)
    about = [f"{report.name}, by paretune", *([chart.title] if chart else [])]
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


def _chart_card(tasks: Sequence[TaskReport], height: float) -> Chart | None:
    """Score over the first cost, of as many configurations as have room for their names."""
    task = next((task for task in tasks if task.pareto), None)
    if task is None or task.pareto is None:
        return None
    front = task.pareto.fronts[0]
    on_front = tuple(point for point in front.points if point.on_front)
    for points in (front.points, on_front, on_front[-4:]):
        chart = _chart_front(task, replace(front, points=points), 600, height)
        if chart.spec["height"] <= height:
            break
    metric = f"{task.key}: {task.metric}, {task.basis}"
    return replace(chart, title=metric)


def write_figures(
    report: Report, folder: Path, formats: Sequence[str] = ("png", "svg", "pdf")
) -> list[Path]:
    """Write the charts of each task in each format; returns the files.

    ``TASK.png`` has scores beside peak memory; ``TASK-front.png`` the scores over each cost;
    ``TASK-size.png`` score and memory against model size; ``TASK-bytes.png`` the parts of peak
    memory; ``TASK-curves.png`` the learning curves. A chart without data is not written. The same
    records give the same bytes of PNG and SVG.

    Raises:
        StoreError: the folder cannot be written.
    """
    written: list[Path] = []
    for task in report.tasks:
        for suffix, (charts, columns) in _collect_figures(task).items():
            spec = _join_charts(charts, columns, f"n = {task.basis}" if task.basis else "")
            for format_ in formats:
                path = folder / f"{make_file_name(task.key)}{suffix}.{format_}"
                if path in written:  # a task called like another one with a suffix
                    path = folder / f"{make_file_name(task.key, suffix)}.{format_}"
                written.append(draw_file(spec, path))
    return written


def _collect_figures(task: TaskReport) -> Mapping[str, tuple[list[Chart], int]]:
    """Charts and columns of each file, by the suffix of its name."""
    figures = {
        "": ([chart_scores(task), chart_memory(task)], 2),
        "-front": (chart_fronts(task), 2),
        "-size": ([chart_model_sizes(task)], 1),
        "-bytes": ([chart_memory_parts(task)], 1),
        "-curves": ([chart_learning_curves(task)], 1),
    }
    return {
        suffix: (drawn, columns)
        for suffix, (charts, columns) in figures.items()
        if (drawn := [chart for chart in charts if chart])
    }


def _join_charts(charts: Sequence[Chart], columns: int, basis: str) -> Spec:
    """One specification of several charts, each with its title and note."""
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
        **_base([]),
        "concat": panels,
        "columns": columns,
        "padding": 12,
        "params": charts[0].spec.get("params", []),
        "resolve": {"scale": {"color": "independent"}},
    }


def _group_by_model(task: TaskReport, keep: Callable[[Row], bool]) -> list[tuple[str, list[Row]]]:
    """The rows of a task that train a model and are to be kept, under their models."""
    groups: dict[str, list[Row]] = {}
    for row in task.all_rows:
        if row.cell.model != NO_MODEL and keep(row):
            groups.setdefault(row.model, []).append(row)
    return list(groups.items())


def _stack_lines(
    groups: Sequence[tuple[str, list[Row]]], write: Callable[[Row], dict[str, Any]]
) -> list[dict[str, Any]]:
    """A line of the chart for each heading and each row, numbered from the top."""
    lines: list[dict[str, Any]] = []
    for heading, rows in groups:
        lines.append({"place": len(lines), "title": heading})
        for row in rows:
            label = textwrap.wrap(row.method, 20) or [row.method]
            line = {"place": len(lines), "heading": heading, "label": label}
            lines.append({**line, **write(row)})
    return lines


def _score_line(row: Row) -> dict[str, Any]:
    score = row.interval
    if score is None:
        note = ", ".join(row.flags) or "no score yet"
        return {"note": note, "description": f"{row.title}: {note}"}
    kind = "baseline"
    if row.verdict is not None and not row.cell.baseline:
        standing = row.verdict.standing
        clear = standing == "below" or row.verdict.above_all
        kind = standing if clear else "unclear"
    constant = 0 if row.cell.name in CONSTANT else row.cell.outcomes.get("collapsed", 0)
    share = "" if constant == len(row.cell.final) else f" {constant}/{len(row.cell.final)}"
    return {
        "value": score.estimate,
        "low": score.low,
        "high": score.high,
        "kind": kind,
        "constant": row.collapsed or row.cell.name in CONSTANT,
        "untuned": row.cell.name == "untuned",
        "text": format_estimate(score)
        + _SYMBOLS.get(kind, "")
        + (f" const.{share}" if constant else ""),
        "description": f"{row.title}, {format_interval(score)}, {format_basis(score)}",
    }


def _memory_line(row: Row, factor: float) -> dict[str, Any]:
    memory = row.cost.memory
    description = f"{row.title}, {memory.text}"
    if memory.value is None:
        return {"note": memory.text, "description": description}
    return {
        **_in_unit(factor, value=memory.value, low=memory.low, high=memory.high),
        "kind": "memory",
        "text": format_bytes(memory.value),
        "description": description,
    }


def _parts_line(row: Row) -> dict[str, Any]:
    memory = row.memory
    assert memory is not None and memory.peak is not None  # noqa: S101 - kept for its peak
    if not memory.stacked_parts:
        note = "parts do not add up to the peak"
        return {"note": note, "description": f"{row.title}: {note}"}
    parts, end = [], 0.0
    for kind, size in memory.stacked_parts:
        parts.append((kind, end, end + size))
        end += size
    texts = [f"{PARTS[kind]} {format_bytes(size)}" for kind, size in memory.stacked_parts if size]
    return {
        "parts": parts,
        "text": format_bytes(memory.peak),
        "description": f"{row.title}, {', '.join(texts)}",
    }


def _bars(lines: Sequence[Mapping[str, Any]], layers: Sequence[Spec]) -> Spec:
    """Horizontal bars with labels at the left and values in words at the right."""
    left = max(len(text) for line in lines for text in line.get("label", ())) * _LETTER + 8
    right = max(len(line.get("text", "")) for line in lines) * _LETTER + 8
    width = max(120, round(_BAR_WIDTH - left - right))
    letters = int((width + right) / _LETTER)
    values = [{**x, "note": textwrap.wrap(x["note"], letters)} if "note" in x else x for x in lines]
    tallest = max(len(line.get(key, ())) for line in values for key in ("label", "note"))

    def words(field: str, x: float | str, **style: Any) -> Spec:
        style = {**_words(field), **style}
        channels = {"x": {"value": x}, "y": _place("place", 0.5), "text": {"field": field}}
        return _layer("text", style, channels, where=f"isValid(datum.{field})")

    texts = [
        words("title", -left, fontWeight=600),
        words("label", -left),
        words("note", 4, color=_colour("soft")),
        words("text", "width", dx=8),
    ]
    height = {"step": max(22, 13 * tallest + 7)}
    return {**_base(values, [*texts, *layers]), "width": width, "height": height}


def _bar_layer(x: Spec, titles: Mapping[str, str], lines: Sequence[Mapping[str, Any]]) -> Spec:
    """Bars coloured by ``kind``, with a legend of the kinds that occur."""
    kinds = {line.get("kind") for line in lines}
    present = [kind for kind in titles if kind in kinds]
    colours = [_colour("activations" if kind == "working" else kind) for kind in present]
    label = json.dumps({kind: titles[kind] for kind in present}, ensure_ascii=False)
    legend = {
        "title": None,
        "orient": "bottom",
        "columns": 1 if titles is STANDINGS else 3,
        "labelLimit": 0,
        "symbolType": "square",
        "labelExpr": f"{label}[datum.value]",
        "offset": 8,
    }
    color = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": present, "range": colours},
        "legend": legend if any(titles.values()) else None,
    }
    pale = {"condition": {"test": "datum.constant === true", "value": 0.35}, "value": 1}
    channels = {"x": x, "y": _place("place", 0.5), "opacity": pale, "color": color}
    return _layer("bar", {"height": 12}, channels, where="isValid(datum.kind)")


def _whisker_layer(x: Spec) -> Spec:
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": _place("place", 0.5)}
    style = {"color": _colour("ink"), "strokeWidth": 1.25}
    return _layer("rule", style, ends, where="isValid(datum.low)")


def _size_layers(x: Spec, y: Spec, ends: tuple[str, str], place: int) -> list[Spec]:
    low, high = ends
    this = f"datum.place === {place}"
    whisker = {"x": x, "y": {**y, "field": low}, "y2": {"field": high}}
    spot = {"color": _colour("above"), "size": 40, "opacity": 1}
    every = {"x": x, "y": y, "detail": {"field": "place", "type": "nominal"}}
    return [
        _layer("line", {"color": _colour("rule")}, every),
        _layer("line", {"color": _colour("above")}, {"x": x, "y": y}, where=this),
        _layer("rule", {"color": _colour("ink")}, whisker, f"{this} && isValid(datum.{low})"),
        _layer("circle", spot, {"x": x, "y": y}, where=this),
    ]


def _layer(mark: str, style: Spec, encoding: Spec, where: str = "") -> Spec:
    layer: Spec = {"mark": {"type": mark, **style}, "encoding": encoding}
    return {**layer, "transform": [{"filter": where}]} if where else layer


def _base(values: Sequence[Mapping[str, Any]], layers: Sequence[Spec] = ()) -> Spec:
    """What every specification begins with."""
    axis = {
        "labelColor": _colour("soft"),
        "titleColor": _colour("soft"),
        "gridColor": _colour("rule"),
        "domainColor": _colour("soft"),
        "tickColor": _colour("soft"),
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
    }
    title = {
        "anchor": "start",
        "color": _colour("text"),
        "subtitleColor": _colour("soft"),
        "fontSize": 13,
        "subtitleFontSize": 11,
        "offset": 10,
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "config": {
            "aria": False,
            "font": "system-ui, Arial, sans-serif",
            "background": _colour("page"),
            "view": {"stroke": None},
            "axis": axis,
            "title": title,
            "text": {"color": _colour("text"), "fontSize": 12},
            "legend": {"labelColor": _colour("soft"), "labelFontSize": 11},
            "concat": {"spacing": 28},
        },
        **({"data": {"values": list(values)}} if values else {}),
        **({"layer": list(layers)} if layers else {}),
    }


def _quantity(
    field: str,
    domain: Sequence[float] | None,
    *,
    title: str = "",
    zero: bool = True,
    nice: bool = False,
) -> Spec:
    """A linear channel; ends that lie outside ``domain`` are drawn at its edge."""
    scale: Spec = {"zero": zero, "clamp": True}
    scale |= {"domain": list(domain), "nice": nice} if domain else {"nice": True}
    axis = {"title": title or None, "tickCount": 4, "labelFlush": field in ("value", "start")}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _field(name: str) -> Spec:
    """A channel on a scale that another layer describes."""
    return {"field": name, "type": "quantitative"}


def _place(field: str, position: float) -> Spec:
    """A line of a bar chart."""
    scale = {"paddingInner": 0, "paddingOuter": 0}
    place = {"field": field, "type": "ordinal", "bandPosition": position}
    return {**place, "axis": None, "scale": scale}


def _words(field: str) -> Spec:
    """The style of a text at the right of its place, which may be a list of lines."""
    lift = f"isArray(datum.{field}) ? -6.5 * (length(datum.{field}) - 1) : 0"
    return {"align": "left", "baseline": "middle", "lineHeight": 13, "dy": {"expr": lift}}


def _panel_title(name: str) -> Spec:
    return {"text": textwrap.wrap(name, 22) or [name], "fontSize": 12, "offset": 4}


def _colour(name: str) -> str:
    return f"var(--{name})"


def _describe(lines: Sequence[Mapping[str, Any]]) -> str:
    return ". ".join(line["description"] for line in lines if "description" in line) + "."


def _describe_point(axis: Axis, point: ParetoPoint) -> str:
    return (
        f"{point.name}, on front: {format_share(point.probability)} of draws; "
        f"{format_interval(point.quality)}, {format_basis(point.quality)}; "
        f"{format_cost(axis, point.cost)}"
    )


def _choose_unit(axis: Axis, values: Sequence[float]) -> tuple[str, float]:
    fitting = [unit for unit in _UNITS[axis] if max(values) >= unit[1]]
    return fitting[-1] if fitting else _UNITS[axis][0]


def _in_unit(factor: float, **sizes: float | None) -> dict[str, float]:
    return {name: size / factor for name, size in sizes.items() if size is not None}


def _place_of_zero(costs: Sequence[float]) -> float | None:
    """A power of ten at least ten times below every other cost; None where no cost is 0."""
    others = [cost for cost in costs if cost > 0]
    if not others or len(others) == len(costs):
        return None
    return float(10.0 ** (math.floor(math.log10(min(others))) - 1))


def _widen(low: float, high: float, logarithmic: bool) -> list[float]:
    """An axis from ``low`` to ``high`` with 6 % of its length on both sides."""
    start, end = (math.log10(low), math.log10(high)) if logarithmic else (low, high)
    margin = 0.06 * ((end - start) or 0.1 * abs(end) or 1.0)
    if logarithmic:
        return [10 ** (start - margin), 10 ** (end + margin)]
    return [max(start - margin, 0.0), end + margin]


def _spread(targets: Sequence[float], step: float, bottom: float, top: float) -> list[float]:
    """Heights near ``targets``, at least ``step`` apart, between ``bottom`` and ``top``."""
    order = sorted(range(len(targets)), key=lambda i: targets[i])
    placed = [0.0] * len(targets)
    below = -math.inf
    for i in order:
        below = placed[i] = max(targets[i], below + step, bottom + step / 2)
    above = top + step / 2
    for i in reversed(order):
        above = placed[i] = min(placed[i], above - step)
    return placed


def _round(value: float) -> float:
    """Seven digits: more than was measured, and fewer bytes in the page."""
    return float(f"{value:.7g}")


def _read_curve(record: Record, loss: bool) -> Iterable[tuple[int, float]]:
    if record.run.readout == "text" and not loss:
        return  # its loss has selected: no texts are generated before the end
    for point in record.result.get("curve") or ():
        value: Any = point.get("selection")
        if isinstance(value, Mapping):
            value = value.get("loss" if loss else "primary")
        if value is not None and math.isfinite(value):
            yield int(point["step"]), float(value)
