"""What a cell costs, as numbers: what the front and the recommendation weigh quality against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.store.record import Record
from paretune.study import Run

Axis = Literal["memory", "time", "step", "parameters", "saved", "inference"]
AXES: tuple[Axis, ...] = get_args(Axis)
AXIS_TITLES: dict[Axis, str] = {
    "memory": "peak memory in training",
    "time": "time to train",
    "step": "time of a step",
    "parameters": "trained parameters",
    "saved": "saved bytes",
    "inference": "inference time per example",
}
"""``time`` is the median step of the solo measurement times the steps that the final seeds took."""

_PLACES: dict[str, tuple[str, ...]] = {
    "memory": ("phases", "train", "peak_bytes"),
    "step": ("step_seconds", "median"),
    "saved": ("saved_bytes",),
    "inference": ("inference", "unmerged_seconds_per_example"),
}


@dataclass(frozen=True)
class CostEstimate:
    """A cost and the standard error that was measured with it; 0 where there was no spread.

    ``measurements`` solo measurements, each in a fresh process; 0 for what is counted, not measured
    (trained parameters). ``seeds`` took part where the cost depends on them (``time``).
    """

    value: float
    standard_error: float = 0.0
    measurements: int = 1
    seeds: int = 0


def estimate_cost(cell: Cell, axis: Axis) -> CostEstimate | None:
    """The cell's cost on one axis; None where it is not known.

    Several measurements give the error of their mean. The median of one step measurement has that
    of a median, from its quartiles as if steps were normal: 1.2533 (q3 - q1) / 1.349 / sqrt(n).
    Baselines without a model have no cost here: they train none.
    """
    if cell.model == NO_MODEL:
        return None
    if axis == "parameters":
        count = count_trained_parameters(cell)
        return None if count is None else CostEstimate(count, measurements=0)
    if axis == "time":
        return _training_time(cell)
    found = [v for v in (value_at(r.measured, _PLACES[axis]) for r in cell.cost) if v is not None]
    if not found:
        return None
    error = 0.0
    if len(found) > 1:
        error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    elif axis == "step":
        error = _error_of_median(cell)
    return CostEstimate(float(np.mean(found)), error, len(found))


def count_trained_parameters(cell: Cell) -> float | None:
    """How many numbers training moves; None where no run has told it yet."""
    for record in (*cell.final, *cell.cost, *cell.tuning):
        count = record.result.get("trained_parameters")
        count = record.measured.get("trained_parameters") if count is None else count
        if count is not None:
            return float(count)
    return None


def value_at(measured: Mapping[str, Any], key: tuple[str, ...]) -> float | None:
    """The number at ``key`` in a record's measurements; None where there is none."""
    place: Any = measured
    for part in key:
        place = place.get(part) if isinstance(place, Mapping) else None
    return None if place is None else float(place)


CONTRADICTION_RATIO = 2.0
"""A solo step this many times what the study's own steps were is no figure of the method."""


def find_contradiction(
    measured: Mapping[str, Any], run: Run, own: Iterable[Record]
) -> dict[str, float | int] | None:
    """What the study's own steps say against the step of a solo measurement; None: nothing.

    The solo batch holds the longest examples, so an own step is reckoned up by tokens, and by
    threads where it had more. Its seconds hold evaluations too: that errs towards no contradiction.
    Only slower solo steps contradict: alone and with all processors they cannot be slower, while
    runs beside one another, or on a busy machine, may well be.

    Args:
        measured: of the solo measurement.
        run: that was measured.
        own: ended runs of its cell. Those that shared passes, or went on from kept activations, or
            ran elsewhere, say nothing.

    Returns:
        ``own_step_seconds`` (reckoned up), ``runs`` they are the median of, ``ratio``.
    """
    step = value_at(measured, ("step_seconds", "median"))
    tokens, mean = (value_at(measured, (f"{which}batch_tokens",)) for which in ("", "mean_"))
    if step is None or not tokens or not mean:
        return None
    found = []
    for record in own:
        seconds = value_at(record.measured, ("wall_seconds", "train"))
        steps = record.result.get("steps")
        alone = record.measured.get("kept_activations") is False and "fleet" not in record.measured
        if not (seconds and steps and alone and record.run.training == run.training):
            continue
        if _machine(record.measured) == _machine(measured):
            both = (record.measured, measured)
            before, now = (value_at(one, ("environment", "threads")) or 1.0 for one in both)
            found.append(seconds / steps * max(1.0, before / now))
    if not found:
        return None
    expected = float(np.median(found)) * tokens / mean
    if step <= CONTRADICTION_RATIO * expected:
        return None
    return {"own_step_seconds": expected, "runs": len(found), "ratio": step / expected}


def _machine(measured: Mapping[str, Any]) -> tuple[Any, ...]:
    given: Any = measured.get("environment") or {}
    return tuple(given.get(key) for key in ("system", "processor", "device", "device_name"))


def _training_time(cell: Cell) -> CostEstimate | None:
    step = estimate_cost(cell, "step")
    steps = [float(r.result["steps"]) for r in cell.final if r.result.get("steps")]
    if step is None or not steps:
        return None
    mean = float(np.mean(steps))
    of_seeds = float(np.std(steps, ddof=1)) / math.sqrt(len(steps)) if len(steps) > 1 else 0.0
    error = math.hypot(step.standard_error * mean, step.value * of_seeds)
    return CostEstimate(step.value * mean, error, step.measurements, len(steps))


def _error_of_median(cell: Cell) -> float:
    (one,) = (r for r in cell.cost if value_at(r.measured, _PLACES["step"]) is not None)
    q1, q3, n = (value_at(one.measured, ("step_seconds", name)) for name in ("q1", "q3", "n"))
    if q1 is None or q3 is None or not n:
        return 0.0
    return 1.2533 * (q3 - q1) / 1.349 / math.sqrt(n)
