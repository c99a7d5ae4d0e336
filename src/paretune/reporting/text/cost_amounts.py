"""Costs in words: peak memory, times, parameters, bytes, forgetting."""

from __future__ import annotations

from paretune.analysis.pareto.costs import Axis, CostEstimate
from paretune.reporting.text.formatting import format_bytes, format_parameters, format_seconds

LEAST_TITLES: dict[Axis, str] = {
    "memory": "the least peak memory",
    "time": "the shortest training",
    "step": "the shortest step",
    "parameters": "the fewest trained parameters",
    "saved": "the fewest saved bytes",
    "inference": "the fastest inference",
    "forgetting": "the least forgetting",
}
_UNIT_TITLES: dict[Axis, str] = {
    "memory": "peak memory",
    "time": "to train",
    "step": "a step",
    "parameters": "trained parameters",
    "saved": "saved",
    "inference": "an example in inference",
    "forgetting": "forgetting",
}

_SHARES = {2 / 3: "two thirds", 1 / 2: "half", 1 / 3: "a third", 1 / 4: "a quarter"}
_SHARED: dict[Axis, str] = {
    "memory": "memory",
    "time": "training time",
    "step": "time of a step",
    "parameters": "trained parameters",
    "saved": "saved bytes",
    "inference": "inference time",
    "forgetting": "forgetting",
}


def format_cost_share(axis: Axis, share: float, title: str) -> str:
    """``a third of full fine-tuning's memory``; a percentage where no simple fraction is near.

    Args:
        share: the cost as a part of that of ``title``.
    """
    near = (text for part, text in _SHARES.items() if abs(share / part - 1) < 0.1)
    percent = "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
    return f"{next(near, percent)} of {title}'s {_SHARED[axis]}"


def format_cost(axis: Axis, cost: CostEstimate) -> str:
    """``870 MiB peak memory``; ``... (mean of 3 measurements)``."""
    text = f"{format_amount(axis, cost.value)} {_UNIT_TITLES[axis]}"
    if cost.measurements < 2:
        return text
    return f"{text} (mean of {cost.measurements} measurements)"


def format_amount(axis: Axis, value: float) -> str:
    """The value of a cost with a suitable unit."""
    if axis in ("memory", "saved"):
        return format_bytes(value)
    if axis == "parameters":
        return format_parameters(value)
    if axis == "forgetting":
        return f"{value:.3f} nats"
    if axis == "time" and value >= 120:
        return f"{value / 3600:.1f} h" if value >= 7200 else f"{value / 60:.1f} min"
    return format_seconds(value)
