"""The charts of a report: one Vega-Lite specification each, as plain dicts.

All numbers are those of the report; nothing is computed here but places and units.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from paretune.analysis.memory_breakdown import PART_TITLES
from paretune.analysis.pareto.expected_scores import name_chance
from paretune.methods.baselines import CONSTANT
from paretune.reporting.document import TaskReport, name_rivals
from paretune.reporting.parts import Amount, CellReport, CostFront, Score
from paretune.reporting.tables import build_memory_table, build_size_table
from paretune.reporting.text.formatting import (
    COST_WORDS,
    format_basis,
    format_bytes,
    format_cost,
    format_estimate,
    format_interval,
)
from paretune.reporting.vega import (
    Spec,
    base_spec,
    channel,
    colour,
    layer,
    line_channel,
    panels,
    place_of_zero,
    quantity,
    round_number,
    spread_labels,
    text_style,
    widen,
)
from paretune.study import UNNAMED_MODEL

STANDINGS = {
    "above": "▲ better than every {rival}",
    "unclear": "≈ undecided against {a_rival}",
    "below": "▼ worse than {a_rival}",
    "baseline": "baseline (dashed line: its score)",
}
_MEMORY_KINDS = {
    **PART_TITLES,
    "rest": "the rest",
    "working": "activations and the rest",
    "peak": "parts not known",
}
_SYMBOLS = {"above": " ▲", "unclear": " ≈", "below": " ▼"}
_BAR_WIDTH = 400
_LETTER = 6.3
"""Width of a character in pixels, rounded up."""


@dataclass(frozen=True)
class Chart:
    """A specification with its words; ``description`` says all that a reader cannot see."""

    title: str
    note: str
    description: str
    spec: Spec


def chart_scores(task: TaskReport) -> Chart | None:
    """Scores with whiskers on an axis from 0; dashed lines carry baselines through the others.

    None where there is nothing to compare.
    """
    if len(task.cells) < 2:
        return None
    bare = [cell for cell in task.baselines if cell.model is None and cell.score]
    groups = _group_by_model(task, lambda cell: bool(cell.score or cell.runs))
    lines = _stack_lines([*([("baselines", bare)] if bare else []), *groups], _score_line)
    if not lines:
        return None
    for line in lines:
        if line.get("kind") and (line["heading"] == "baselines" or line["untuned"]):
            below = [x["place"] for x in lines if x.get("heading") == line["heading"]]
            whole = line["heading"] == "baselines"
            line |= {"from": line["place"] if whole else min(below)}
            line |= {"to": len(lines) - 1 if whole else max(below)}
    highest = max([cell.score.high for cell in task.cells if cell.score] or [1.0])
    bounded = task.highest <= 1
    x = quantity("value", [0, 1] if bounded else [0, highest], nice=not bounded)
    dashes = layer(
        "rule",
        {"color": colour("soft"), "strokeDash": [4, 3]},
        {"x": x, "y": line_channel("from", 0.0), "y2": {"field": "to", "bandPosition": 1.0}},
        where="isValid(datum.from)",
    )
    scope = f"Mean over seeds, 95 % interval over {task.interval_scope}"
    selected = "; selected on the test part" if task.selected_on_test else ""
    constant = any(line.get("constant") for line in lines)
    pale = "; pale: every example gets the same answer" if constant else ""
    bars = _bar_layer(x, name_rivals(STANDINGS, [task]), lines, columns=1)
    layers = [bars, _whisker_layer(x), dashes]
    return Chart(
        f"Quality on {task.key}: {task.metric_title}",
        f"{scope}{selected}{pale}",
        describe_lines(lines),
        _bars(lines, layers),
    )


def chart_memory(task: TaskReport) -> Chart | None:
    """Peak memory in training: its parts, stacked, or the whole where they do not add up to it."""
    groups = _group_by_model(task, lambda cell: bool(cell.costs))
    amounts = [cell.cost.memory for _, cells in groups for cell in cells]
    ends = [end for amount in amounts for end in (amount.value, amount.high) if end]
    if not ends:
        return None
    unit, factor = COST_WORDS["memory"].choose_unit(ends)
    lines = _stack_lines(groups, partial(_memory_line, factor=factor))
    parts = [
        {"place": line["place"], "kind": kind, "start": start, "end": end}
        for line in lines
        for kind, start, end in line.pop("parts", ())
    ]
    x = quantity("start", None, title=unit)
    bars = _bar_layer(x, _MEMORY_KINDS, parts) | {"data": {"values": parts}}
    bars["encoding"] |= {"x2": {"field": "end"}}
    table = build_memory_table(task)
    is_divided = any(part["kind"] != "peak" for part in parts)
    return Chart(
        f"Peak memory in training on {task.key}",
        table.above if table and is_divided else task.describe_measurements(),
        describe_lines(lines),
        _bars(lines, [bars, _whisker_layer(x)]),
    )


def chart_front(
    task: TaskReport, front: CostFront, width: float = 520, least_height: float = 280
) -> Chart:
    """Score over a cost. The chart is at least as high as its names need.

    The parameter ``budget`` shades what costs more. ``usermeta`` has what a script says of it: the
    axis, its unit and the pixels of the names at the right.
    """
    on_any = {
        (point.model, point.method) for any_front in task.fronts for point in any_front.points
    }
    titles = [cell.title for cell in task.cells if (cell.model, cell.method) in on_any]
    values = [point.cost.value for point in front.points]
    unit, factor = COST_WORDS[front.axis].choose_unit(values)
    linear = front.axis == "forgetting"  # may be 0, which no logarithmic scale has
    zero = None if linear else place_of_zero(values)
    costs = [(value or zero or 0.0) / factor for value in values]
    logarithmic = not linear and max(costs) > 20 * min(costs) > 0
    domain = widen(min(costs), max(costs), logarithmic)
    low = min(point.score.low for point in front.points)
    high = max(point.score.high for point in front.points)
    margin = (0.04 * (high - low)) or 0.05
    bottom, top = low - margin, high + margin
    names = [textwrap.wrap(point.title, 22) or [point.title] for point in front.points]
    line = 13 * max(map(len, names)) + 4
    height = max(least_height, line * len(names))
    room = round(max(len(line) for lines in names for line in lines) * _LETTER) + 20
    scores = [point.score.estimate for point in front.points]
    labels = spread_labels(scores, line / height * (top - bottom), bottom, top)
    points = [
        {
            "name": point.title,
            "row": titles.index(point.title),
            "lines": lines,
            "description": f"{point.title}, on front: {name_chance(point.share_of_draws)}; "
            f"{format_interval(point.score)}, {format_basis(point.score)}; "
            f"{format_cost(front.axis, point.cost)}",
            "score_text": f"{format_interval(point.score)} ({format_basis(point.score)})",
            "cost": round_number(cost),
            "score": point.score.estimate,
            "low": point.score.low,
            "high": point.score.high,
            "label": round_number(label),
            "front": point.on_front,
        }
        for point, lines, cost, label in zip(front.points, names, costs, labels, strict=True)
    ]
    stairs = [{"cost": p["cost"], "score": p["score"]} for p in points if p["front"]]
    stairs.append({"cost": domain[1], "score": stairs[-1]["score"]})
    title = COST_WORDS[front.axis].title
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
    on_front = {"test": "datum.front", "value": colour("above")}
    shade = {"x": channel("from"), "x2": {"field": "end"}}
    beyond = {"calculate": "min(budget, datum.end)", "as": "from"}
    stairs_style = {"interpolate": "step-after", "strokeWidth": 1.5, "strokeDash": [2, 3]}
    # One layer has the scales and axes; they hold for all.
    at = {"x": channel("cost"), "y": channel("score"), "opacity": faded}
    whisker = {**at, "y": channel("low"), "y2": {"field": "high"}}
    fill = {"condition": on_front, "value": colour("page")}
    stroke = {"condition": on_front, "value": colour("baseline")}
    label = {**at, "x": edge, "y": channel("label"), "text": {"field": "lines"}}
    tip = {"x": x, "y": y, "tooltip": {"field": "description"}}
    layers: list[Spec] = [
        {
            **layer("rect", {"color": colour("faint")}, shade),
            "data": {"values": [{"end": domain[1]}]},
            "transform": [beyond],
        },
        layer("rule", {"color": colour("rule")}, {**at, "x2": edge, "y2": {"field": "label"}}),
        {
            **layer("line", {"color": colour("above"), **stairs_style}, at),
            "data": {"values": stairs},
        },
        layer("rule", {"color": colour("ink"), "strokeWidth": 1.25}, whisker),
        layer("point", {"size": 75, "strokeWidth": 2}, {**at, "fill": fill, "stroke": stroke}),
        layer("text", {**text_style("lines"), "dx": 8, "limit": room - 8}, label),
        layer("circle", {"size": 900, "opacity": 0}, tip),  # what a finger or a pointer finds
    ]
    on_test = "; selected on the test part" if task.selected_on_test else ""
    return Chart(
        f"Score over {title}{' (logarithmic)' if logarithmic else ''}",
        "Filled points are on the front: by the estimates, no other method is both cheaper and "
        f"better. Whiskers: 95 % over {task.interval_scope}{on_test}",
        " ".join(f"{point['description']}." for point in points),
        {
            **base_spec(points, layers),
            "width": round(width - room - 50),
            "height": round(height),
            "params": [{"name": "budget", "value": 1e300}],
            "usermeta": {"axis": title, "unit": unit, "log": logarithmic, "names": room},
        },
    )


def chart_model_sizes(task: TaskReport) -> Chart | None:
    """Score and memory against model size, a panel for each method, the other methods faint."""
    table = build_size_table(task)
    if table is None:
        return None
    names = list(dict.fromkeys(line[0] for line in table.texts))
    unit, factor = COST_WORDS["memory"].choose_unit(
        [cell.cost.memory.value or 0.0 for cell in task.cells if cell.model]
    )
    points: list[dict[str, Any]] = []
    texts = []
    for row, values, line in zip(table.rows, table.values, table.texts, strict=True):
        label, parameters, *_ = line
        score = values["score"]
        memory = row["peak_bytes"]
        # Only scored models are compared, and each row has a peak.
        assert isinstance(score, Score) and isinstance(memory, Amount)  # noqa: S101
        points.append(
            {
                "place": names.index(label),
                "parameters": values["model_parameters"],
                "score": score.estimate,
                "low": score.low,
                "high": score.high,
                **_in_unit(factor, memory=memory.value, least=memory.low, most=memory.high),
            }
        )
        texts.append(
            f"{label} on {values['model']}, {parameters} parameters: {format_interval(score)} "
            f"({format_basis(score)}), {memory.text}."
        )
    counts = sorted({point["parameters"] for point in points})
    x = {
        **channel("parameters"),
        "scale": {"type": "log", "domain": widen(counts[0], counts[-1], logarithmic=True)},
        "axis": {"title": None, "grid": False, "values": [counts[0], counts[-1]], "format": ".3~s"},
    }
    quantities = [("score", "low", "high", task.metric_title, False)]
    if any(point.get("memory") for point in points):
        quantities.append(("memory", "least", "most", f"peak memory, {unit}", True))
    charts = []
    for field, low, high, title, zero in quantities:
        ends = [p[key] for p in points for key in (field, low, high) if p.get(key) is not None]
        domain = [0 if zero else min(ends), max(ends)]
        y = quantity(field, domain, title=title, zero=zero, nice=True)
        at = {"x": x, "y": y}
        whisker = {"x": channel("parameters"), "y": channel(low), "y2": {"field": high}}
        layers = [
            layer("line", {"color": colour("above")}, at),
            layer("rule", {"color": colour("ink")}, whisker, where=f"isValid(datum.{low})"),
            layer("circle", {"color": colour("above"), "size": 40, "opacity": 1}, at),
        ]
        charts.append(panels(names, layers, (130, 90)))
    return Chart(
        "Score and memory against model size",
        f"Above: {task.metric_title}, mean over seeds with 95 %; below: peak memory in training. "
        "Across: parameters, logarithmic",
        " ".join(texts),
        {**base_spec(points), "vconcat": charts},
    )


def chart_learning_curves(task: TaskReport) -> Chart | None:
    """Selection score over steps, one line for each seed; None where no run has two points.

    For generated texts the selection loss: texts are generated only at the end of a run.
    """
    loss = task.generates
    field = "loss" if loss else "score"
    curves = []
    for cell in task.cells:
        by_seed = []
        for run in cell.runs:
            key = "loss" if loss else "primary"
            scores = [(point["step"], point["selection"].get(key)) for point in run.curve]
            curve = [(step, v) for step, v in scores if v is not None and math.isfinite(v)]
            # Where a loss has selected, no texts are generated before the end of a run.
            if len(curve) > 1 and (loss or cell.readout != "text"):
                by_seed.append(curve)
        if by_seed:
            curves.append((cell, by_seed))
    if not curves:
        return None
    values = [value for _, by_seed in curves for curve in by_seed for _, value in curve]
    low, high = (min(values), max(values)) if loss else (0.0, 1.0)
    points = [
        {"place": place, "seed": seed, "step": step, field: value}
        for place, (_, by_seed) in enumerate(curves)
        for seed, curve in enumerate(by_seed)
        for step, value in curve
    ]
    steps = max(point["step"] for point in points)
    x = quantity("step", [0, steps], title="steps")
    x["axis"] |= {"values": [0, steps], "grid": False}
    y = quantity(field, [low, high], nice=loss)
    y["axis"]["tickCount"] = 2
    line = {"color": colour("above"), "opacity": 0.8}
    seeds = {"field": "seed", "type": "nominal"}
    lines = layer("line", line, {"x": x, "y": y, "detail": seeds})
    names = [cell.title for cell, _ in curves]
    texts = [
        f"Selection {field} of {cell.title} over {max(curve[-1][0] for curve in by_seed)} steps; "
        f"the seeds end at {', '.join(f'{curve[-1][1]:.2f}' for curve in by_seed)}."
        for cell, by_seed in curves
    ]
    caption = "Selection score, 0 to 1, over training steps; one line for each seed."
    if loss:
        caption = (
            "Selection loss, nats a token, over training steps; one line for each seed. The axis "
            f"runs from {low:.2f} to {high:.2f} in every panel."
        )
    spec = {**base_spec(points), **panels(names, [lines], (130, 64))}
    return Chart("Learning curves", caption, " ".join(texts), spec)


def _group_by_model(
    task: TaskReport, keep: Callable[[CellReport], bool]
) -> list[tuple[str, list[CellReport]]]:
    """The cells of a task that train a model and are to be kept, under their models."""
    groups: dict[str, list[CellReport]] = {}
    for cell in task.cells:
        if cell.model is not None and keep(cell):
            model = "" if cell.model == UNNAMED_MODEL.key else cell.model
            groups.setdefault(model, []).append(cell)
    return list(groups.items())


def _stack_lines(
    groups: Sequence[tuple[str, list[CellReport]]], write: Callable[[CellReport], dict[str, Any]]
) -> list[dict[str, Any]]:
    """A line of the chart for each heading and each cell, numbered from the top."""
    lines: list[dict[str, Any]] = []
    for heading, cells in groups:
        if heading:
            lines.append({"place": len(lines), "title": heading})
        for cell in cells:
            label = textwrap.wrap(cell.label, 20) or [cell.label]
            line = {"place": len(lines), "heading": heading, "label": label}
            lines.append({**line, **write(cell)})
    return lines


def _score_line(cell: CellReport) -> dict[str, Any]:
    score = cell.score
    if score is None:
        note = ", ".join(cell.flags) or "no score yet"
        return {"note": note, "description": f"{cell.title}: {note}"}
    kind = "baseline"
    if cell.verdict is not None and not cell.baseline:
        standing = cell.verdict.standing
        clear = standing == "below" or cell.verdict.above_all
        kind = standing if clear else "unclear"
    constant = 0 if cell.name in CONSTANT else cell.outcomes.get("collapsed", 0)
    share = "" if constant == len(cell.runs) else f" {constant}/{len(cell.runs)}"
    return {
        "value": score.estimate,
        "low": score.low,
        "high": score.high,
        "kind": kind,
        "constant": cell.collapsed or cell.name in CONSTANT,
        "untuned": cell.name == "untuned",
        "text": format_estimate(score)
        + _SYMBOLS.get(kind, "")
        + (f" const.{share}" if constant else ""),
        "description": f"{cell.title}, {format_interval(score)}, {format_basis(score)}",
    }


def _memory_line(cell: CellReport, factor: float) -> dict[str, Any]:
    memory = cell.cost.memory
    if memory.value is None:
        return {"note": memory.text, "description": f"{cell.title}, {memory.text}"}
    counted = cell.memory.stack if cell.memory else ()
    sizes = [size / factor for _, size in counted] or [memory.value / factor]
    ends = list(accumulate(sizes))
    texts = [f"{PART_TITLES[kind]} {format_bytes(size)}" for kind, size in counted if size]
    return {
        **_in_unit(factor, low=memory.low, high=memory.high),
        "parts": list(
            zip([kind for kind, _ in counted] or ["peak"], [0, *ends], ends, strict=False)
        ),
        "text": format_bytes(memory.value),
        "description": ", ".join([cell.title, memory.text, *texts]),
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
        style = {**text_style(field), **style}
        channels = {"x": {"value": x}, "y": line_channel("place", 0.5), "text": {"field": field}}
        return layer("text", style, channels, where=f"isValid(datum.{field})")

    texts = [
        words("title", -left, fontWeight=600, limit=left + width),
        words("label", -left, limit=left),
        words("note", 4, color=colour("soft")),
        words("text", "width", dx=8),
    ]
    height = {"step": max(22, 13 * tallest + 7)}
    return {**base_spec(values, [*texts, *layers]), "width": width, "height": height}


def _bar_layer(
    x: Spec, titles: Mapping[str, str], lines: Sequence[Mapping[str, Any]], columns: int = 3
) -> Spec:
    """Bars coloured by ``kind``, with a legend of the kinds that occur."""
    kinds = {line.get("kind") for line in lines}
    present = [kind for kind in titles if kind in kinds]
    same = {"working": "activations", "peak": "memory"}
    colours = [colour(same.get(kind, kind)) for kind in present]
    label = json.dumps({kind: titles[kind] for kind in present}, ensure_ascii=False)
    legend = {
        "title": None,
        "orient": "bottom",
        "columns": columns,
        "labelLimit": 0,
        "symbolType": "square",
        "labelExpr": f"{label}[datum.value]",
        "offset": 8,
    }
    color = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": present, "range": colours},
        "legend": legend if present != ["peak"] else None,
    }
    pale = {"condition": {"test": "datum.constant === true", "value": 0.35}, "value": 1}
    channels = {"x": x, "y": line_channel("place", 0.5), "opacity": pale, "color": color}
    return layer("bar", {"height": 12}, channels, where="isValid(datum.kind)")


def _whisker_layer(x: Spec) -> Spec:
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": line_channel("place", 0.5)}
    style = {"color": colour("ink"), "strokeWidth": 1.25}
    return layer("rule", style, ends, where="isValid(datum.low)")


def describe_lines(lines: Sequence[Mapping[str, Any]]) -> str:
    """The descriptions of lines or points, as sentences."""
    return ". ".join(line["description"] for line in lines if "description" in line) + "."


def _in_unit(factor: float, **sizes: float | None) -> dict[str, float]:
    return {name: size / factor for name, size in sizes.items() if size is not None}
