"""Costs in words: peak memory, times, parameters, bytes."""

from __future__ import annotations

from paretune.analysis.costs import Axis, Spread
from paretune.report import words

LEAST: dict[Axis, str] = {
    "memory": "the least peak memory",
    "time": "the shortest training",
    "step": "the shortest step",
    "parameters": "the fewest trained parameters",
    "saved": "the fewest saved bytes",
    "inference": "the fastest inference",
}
_SAID: dict[Axis, str] = {
    "memory": "peak memory",
    "time": "to train",
    "step": "a step",
    "parameters": "trained parameters",
    "saved": "saved",
    "inference": "an example in inference",
}


def cost(axis: Axis, found: Spread) -> str:
    """``870 MiB peak memory in training``; several measurements and seeds are named."""
    said = f"{bare_cost(axis, found.value)} {_SAID[axis]}"
    if found.measurements < 2:
        return said
    return f"{said} (mean of {found.measurements} measurements)"


def bare_cost(axis: Axis, value: float) -> str:
    """A cost in the unit that suits it."""
    if axis in ("memory", "saved"):
        return words.size(value)
    if axis == "parameters":
        return words.parameters(value)
    if axis == "time" and value >= 120:
        return f"{value / 3600:.1f} h" if value >= 7200 else f"{value / 60:.1f} min"
    return words.seconds(value)
