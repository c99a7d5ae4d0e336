"""The chart of scores over the number of labelled rows."""

from __future__ import annotations

import math
from itertools import cycle, product
from typing import Any

from paretune.reporting.charts import Chart, describe_lines
from paretune.reporting.document import LabelledRows
from paretune.reporting.parts import Score
from paretune.reporting.table import Table
from paretune.reporting.text.formatting import format_basis, format_interval
from paretune.reporting.vega import base_spec, channel, colour, layer, panels, quantity

_LINES = ("above", "below", "memory", "optimizer", "gradients", "baseline", "ink", "unclear")
"""Colours of lines; they begin again where there are more lines."""


def chart_labelled_rows(rows: LabelledRows) -> Chart | None:
    """Draw scores over labelled rows: a panel for each task and model, a line for each method.

    None where the scores have no common scale.
    """
    is_counted = all(row["labelled_rows"] is not None for row in rows.scores.values)
    panel_names, points = _list_points(rows.scores, is_counted)
    if not points:
        return None
    sizes = sorted({point["rows"] for point in points})
    x = {
        **channel("rows"),
        "scale": {"type": "log", "domain": [sizes[0], sizes[-1]], "nice": False},
        "axis": {"title": None, "grid": False, "values": sizes, "format": "~r"},
    }
    bounds = [point[end] for point in points for end in ("low", "high")]
    y = quantity("score", [min(bounds), max(bounds)], zero=False, nice=True)
    methods = list(dict.fromkeys(point["method"] for point in points))
    legend = {
        "title": None,
        "orient": "top",
        "symbolType": "stroke",
        "symbolStrokeWidth": 3,
        "symbolOpacity": 1,
        "columns": 3,
        "labelLimit": 0,
    }
    colours = [colour(name) for name, _ in zip(cycle(_LINES), methods, strict=False)]
    of_method = {
        "field": "method",
        "type": "nominal",
        "scale": {"domain": methods, "range": colours},
        "legend": legend,
    }
    at = {"x": x, "y": y, "color": of_method}
    band = {**at, "x": channel("rows"), "y": channel("low"), "y2": {"field": "high"}}
    layers = [
        layer("area", {"opacity": 0.15}, band),
        layer("line", {"strokeWidth": 2}, at),
        layer("circle", {"size": 28, "opacity": 1}, at),
    ]
    across = "labelled rows" if is_counted else "per cent of the labelled rows"
    return Chart(
        "Score by labelled rows",
        f"Across: {across}, logarithmic. Means over runs; bands: 95 %",
        describe_lines(points),
        {**base_spec(points), **panels(panel_names, layers, (190, 140), columns=3)},
    )


def _list_points(scores: Table, is_counted: bool) -> tuple[list[str], list[dict[str, Any]]]:
    """List the names of the panels and the points of all of them.

    Points are those of metrics with a highest value. Baselines without a model are in every panel
    of their task.

    Args:
        scores: by labelled rows.
        is_counted: whether their numbers are known; else the points are at per cent of them.
    """
    values = scores.values
    models = dict.fromkeys(row["model"] for row in values if row["model"] is not None)
    names: list[str] = []
    points: list[dict[str, Any]] = []
    for task, model in product(dict.fromkeys(str(row["task"]) for row in values), models):
        names.append(f"{task}, {model}" if len(models) > 1 else task)
        for row in values:
            score = row["score"]
            assert isinstance(score, Score)  # noqa: S101
            is_here = row["task"] == task and row["model"] in (model, None)
            if not is_here or not math.isfinite(score.highest):
                continue
            size = row["labelled_rows"] if is_counted else 100 * float(str(row["share"]))
            amount = f"{size} rows" if is_counted else f"{size:g} % of the rows"
            basis = f"{format_interval(score)} ({format_basis(score)})"
            points.append(
                {
                    "place": len(names) - 1,
                    "method": row["label"],
                    "rows": size,
                    "score": score.estimate,
                    "low": score.low,
                    "high": score.high,
                    "description": f"{names[-1]}, {row['label']}, {amount}: {basis}",
                }
            )
    return names, points
