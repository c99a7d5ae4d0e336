"""Vega-Lite: the parts that all charts have, and how they become SVG and files.

Colours are the CSS variables of the page, so that one specification serves its light and its dark
theme; files get :data:`COLOURS`.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from paretune.reporting.document import write_file

Spec = dict[str, Any]
_STYLE = (files("paretune.reporting") / "templates" / "style.css").read_text(encoding="utf-8")
COLOURS = {**dict(re.findall(r"--([a-z-]+): (#\w+)", _STYLE.partition("}")[0])), "page": "#ffffff"}
"""The light theme of the page, on white; distinguishable for colour-blind readers."""
_SURPLUS = re.compile(
    r' (?:class|role|aria-[a-z]+|pointer-events|font-family)="[^"]*"| opacity="1"'
)
_DIGITS = re.compile(r"(\d\.\d\d)\d+")
_EMPTY = re.compile(r'<path d="(?:M0,0h0v0h0Z)?"(?: display="none")?/>')
"""Elements that Vega writes and no page needs: most of a small chart's bytes."""


def draw_svg(spec: Spec) -> str:
    """Draw the chart as SVG for a page, in the colours of its CSS variables and in its font.

    Vega escapes what is in it.
    """
    # Imported where it is used: 80 MB of shared object that a report on a terminal does not need.
    import vl_convert

    svg = vl_convert.vegalite_to_svg({**spec, "background": None})
    svg = re.sub(r"<[^>]*>", lambda tag: _SURPLUS.sub("", _DIGITS.sub(r"\1", tag[0])), svg)
    return _EMPTY.sub("", svg).replace("<svg ", '<svg aria-hidden="true" ', 1)


def draw_file(spec: Spec, path: Path, scale: float = 2.0) -> Path:
    """Write a specification as the file that its suffix names: ``.png``, ``.svg`` or ``.pdf``."""
    import vl_convert

    text = json.dumps(spec)
    for name, value in COLOURS.items():
        text = text.replace(colour(name), value)
    convert: Mapping[str, Callable[[str], str | bytes]] = {
        ".png": partial(vl_convert.vegalite_to_png, scale=scale),
        ".svg": vl_convert.vegalite_to_svg,
        ".pdf": vl_convert.vegalite_to_pdf,
    }
    return write_file(path, convert[path.suffix](text), "the figure")


def base_spec(values: Sequence[Mapping[str, Any]], layers: Sequence[Spec] = ()) -> Spec:
    """Begin a specification."""
    soft = ("labelColor", "titleColor", "domainColor", "tickColor")
    axis: Spec = dict.fromkeys(soft, colour("soft"))
    axis |= {"gridColor": colour("rule"), "labelFontSize": 11}
    axis |= {"titleFontSize": 11, "titleFontWeight": "normal"}
    title = {
        "anchor": "start",
        "color": colour("text"),
        "subtitleColor": colour("soft"),
        "fontSize": 13,
        "subtitleFontSize": 11,
        "offset": 10,
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "config": {
            "aria": False,
            "font": "system-ui, Arial, sans-serif",
            "background": colour("page"),
            "view": {"stroke": None},
            "axis": axis,
            "title": title,
            "text": {"color": colour("text"), "fontSize": 12},
            "legend": {"labelColor": colour("soft"), "labelFontSize": 11},
            "concat": {"spacing": 28},
        },
        **({"data": {"values": list(values)}} if values else {}),
        **({"layer": list(layers)} if layers else {}),
    }


def layer(mark: str, style: Spec, encoding: Spec, where: str = "") -> Spec:
    """Make a mark with its channels, of the values for which the expression ``where`` is true."""
    drawn: Spec = {"mark": {"type": mark, **style}, "encoding": encoding}
    return {**drawn, "transform": [{"filter": where}]} if where else drawn


def quantity(
    field: str,
    domain: Sequence[float] | None,
    *,
    title: str = "",
    zero: bool = True,
    nice: bool = False,
) -> Spec:
    """Make a linear channel; ends outside ``domain`` are drawn at its edge."""
    scale: Spec = {"zero": zero, "clamp": True}
    scale |= {"domain": list(domain), "nice": nice} if domain else {"nice": True}
    axis = {"title": title or None, "tickCount": 4, "labelFlush": field in ("value", "start")}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def channel(name: str) -> Spec:
    """Make a channel on a scale that another layer describes."""
    return {"field": name, "type": "quantitative"}


def line_channel(field: str, position: float) -> Spec:
    """Make the channel of the lines of a bar chart."""
    scale = {"paddingInner": 0, "paddingOuter": 0}
    place = {"field": field, "type": "ordinal", "bandPosition": position}
    return {**place, "axis": None, "scale": scale}


def text_style(field: str) -> Spec:
    """Style a text at the right of its place, which may be a list of lines."""
    lift = f"isArray(datum.{field}) ? -6.5 * (length(datum.{field}) - 1) : 0"
    return {"align": "left", "baseline": "middle", "lineHeight": 13, "dy": {"expr": lift}}


def panels(
    names: Sequence[str], layers: Sequence[Spec], size: tuple[int, int], columns: int = 4
) -> Spec:
    """Make small multiples: a panel for each ``place`` of the values, with its name above.

    Args:
        size: width and height of a panel in pixels.
    """
    titles = json.dumps([textwrap.wrap(name, 22) or [name] for name in names])
    header = {
        "title": None,
        "labelExpr": f"{titles}[datum.value]",
        "labelAnchor": "start",
        "labelFontSize": 12,
        "labelFontWeight": 600,
        "labelColor": colour("text"),
        "labelLimit": 0,
    }
    return {
        "facet": {"field": "place", "type": "ordinal", "header": header},
        "columns": min(columns, len(names)),
        "spec": {"width": size[0], "height": size[1], "layer": list(layers)},
    }


def colour(name: str) -> str:
    """Return a colour of :data:`COLOURS` as the page's CSS variable."""
    return f"var(--{name})"


def place_of_zero(costs: Sequence[float]) -> float | None:
    """Return a power of ten at least ten times below every other cost; None where no cost is 0."""
    positive = [cost for cost in costs if cost > 0]
    if not positive or len(positive) == len(costs):
        return None
    return float(10.0 ** (math.floor(math.log10(min(positive))) - 1))


def widen(low: float, high: float, logarithmic: bool) -> list[float]:
    """Return an axis from ``low`` to ``high`` with 6 % of its length on both sides."""
    start, end = (math.log10(low), math.log10(high)) if logarithmic else (low, high)
    margin = 0.06 * ((end - start) or 0.1 * abs(end) or 1.0)
    if logarithmic:
        return [10 ** (start - margin), 10 ** (end + margin)]
    return [max(start - margin, 0.0), end + margin]


def spread_labels(targets: Sequence[float], step: float, bottom: float, top: float) -> list[float]:
    """Return heights near ``targets``, at least ``step`` apart, between ``bottom`` and ``top``."""
    order = sorted(range(len(targets)), key=lambda i: targets[i])
    placed = [0.0] * len(targets)
    below = -math.inf
    for i in order:
        below = placed[i] = max(targets[i], below + step, bottom + step / 2)
    above = top + step / 2
    for i in reversed(order):
        above = placed[i] = min(placed[i], above - step)
    return placed


def round_number(value: float) -> float:
    """Round to seven digits: more than was measured, and fewer bytes in the page."""
    return float(f"{value:.7g}")
