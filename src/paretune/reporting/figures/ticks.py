"""Round axis ticks: scores, and bytes."""

from __future__ import annotations

import math


def round_ticks(low: float, high: float, highest: float) -> list[tuple[float, str]]:
    """Round scores from below ``low`` to above ``high``, each with its label."""
    step = _round_step(max(high - low, highest / 1000))
    first, last = math.floor(low / step), math.ceil(high / step)
    digits = 0 if step >= 1 else max(0, -math.floor(math.log10(step)))
    # A multiple of the step, and not a sum of steps, so that no tick is 0.30000000000000004.
    return [
        (round(i * step, digits), f"{i * step:z.{digits}f}")
        for i in range(first, max(last, first + 1) + 1)
    ]


def ticks_from_zero(highest: float) -> list[tuple[float, str]]:
    """Round values from 0 to above ``highest``."""
    step = _round_step(highest)
    last = math.ceil(highest / step - 1e-9)
    return [(i * step, f"{i * step:g}") for i in range(last + 1)]


def byte_ticks(highest: float) -> list[tuple[float, str]]:
    """Round sizes in bytes from 0 to above ``highest``; the last label names the unit."""
    unit, name = (2**30, "GiB") if highest >= 1000 * 2**20 else (2**20, "MiB")
    ticks = ticks_from_zero(highest / unit)
    labels = [*(text for _, text in ticks[:-1]), f"{ticks[-1][1]} {name}"]
    return [(value * unit, text) for (value, _), text in zip(ticks, labels, strict=True)]


def _round_step(spread: float) -> float:
    """A step of 1, 2 or 5 x 10^k that gives three to five ticks."""
    power = 10.0 ** math.floor(math.log10(spread / 4))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= spread / 4 - 1e-12)
