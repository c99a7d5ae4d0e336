"""Estimates the cost of a cell on each axis for the Pareto front and the recommendation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.secondary_scores import measure_forgetting
from paretune.store.record import Contradiction, Measurements, Record
from paretune.study import Axis, Run

AXES: tuple[Axis, ...] = get_args(Axis)
"""``forgetting`` is the rise of the mean token loss on the study's text
(:mod:`paretune.analysis.secondary_scores`); a fall costs nothing. ``time`` is the median
step of the solo measurement times the steps of the final seeds."""

_MEASURED: dict[Axis, Callable[[Record], float | None]] = {
    "memory": lambda record: record.peak_bytes,
    "step": lambda record: record.median_step_seconds,
    "saved": lambda record: record.measured.get("saved_bytes"),
    "inference": lambda record: record.measured.get("inference", {}).get(
        "unmerged_seconds_per_example"
    ),
}

_MACHINE = ("system", "processor", "device", "device_name")
"""Entries of the environment that identify a machine."""
CONTRADICTION_RATIO = 2.0
"""A solo step that takes longer than the study's steps by more than this factor is contradicted."""


@dataclass(frozen=True)
class CostEstimate:
    """A cost with its standard error.

    Attributes:
        value: cost in bytes, seconds, parameters or nats a token.
        standard_error: 0 if there was one measurement without a spread.
        measurements: solo measurements, each in a fresh process; 0 for what is counted instead
            (trained parameters).
        seeds: number of seeds on which the cost depends (``time``, ``forgetting``).
        predicted: whether it was not measured alone, but predicted or taken from the study's runs.
    """

    value: float
    standard_error: float = 0.0
    measurements: int = 1
    seeds: int = 0
    predicted: bool = False


def estimate_cost(cell: Cell, axis: Axis) -> CostEstimate | None:
    """Estimate the cell's cost on one axis; None if it is unknown, or if the cell has no model.

    Several measurements give the standard error of their mean. The median of one step measurement
    has a standard error from its quartiles, as if steps were normal: 1.2533 (q3 - q1) / 1.349 /
    sqrt(n). Before a measurement, memory is predicted, time is that of the final runs beside other
    runs, and the saved bytes are those of the trained tensors.
    """
    if cell.model == NO_MODEL:
        return None
    if axis == "parameters":
        count = count_trained_parameters(cell)
        return None if count is None else CostEstimate(count, measurements=0)
    if axis in ("step", "time") and cell.trains_nothing:
        return CostEstimate(0.0, measurements=0)
    if axis == "time" and cell.judged:
        return _average([r.train_seconds for r in cell.cost if r.train_seconds is not None])
    if axis == "time":
        step = estimate_cost(cell, "step")
        steps = [float(record.steps) for record in cell.final if record.steps]
        if step is None and cell.run_seconds is not None:
            return CostEstimate(cell.run_seconds, 0.0, 0, len(cell.final), predicted=True)
        if step is None or not steps:
            return None
        mean = float(np.mean(steps))
        of_seeds = float(np.std(steps, ddof=1)) / math.sqrt(len(steps)) if len(steps) > 1 else 0.0
        error = math.hypot(step.standard_error * mean, step.value * of_seeds)
        return CostEstimate(step.value * mean, error, step.measurements, len(steps))
    if axis == "forgetting":
        if (forgetting := measure_forgetting(cell)) is None:
            return None
        rise = max(forgetting.change.estimate, 0.0)
        return CostEstimate(rise, forgetting.standard_error, 0, forgetting.change.n_seeds)
    read = _MEASURED[axis]
    values = [float(value) for record in cell.cost if (value := read(record)) is not None]
    if not values and not cell.cost:
        sizes = [size for record in cell.final if (size := record.result.get("trained_bytes"))]
        value = {"memory": cell.predicted_bytes, "saved": sizes[0] if sizes else None}.get(axis)
        return None if value is None else CostEstimate(float(value), 0.0, 0, predicted=True)
    average = _average(values)
    if axis == "step" and average is not None and average.measurements == 1:
        (timed,) = (s for record in cell.cost if (s := record.measured.get("step_seconds")))
        if timed.get("n"):  # the error of a median, from its quartiles
            error = 1.2533 * (timed["q3"] - timed["q1"]) / 1.349 / math.sqrt(timed["n"])
            return replace(average, standard_error=error)
    return average


def _average(values: Sequence[float]) -> CostEstimate | None:
    """Return the mean of measurements with its standard error; None without measurements."""
    if not values:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return CostEstimate(float(np.mean(values)), error, len(values))


def count_trained_parameters(cell: Cell) -> float | None:
    """Count the trained parameters of a cell; None if no run has ended."""
    for record in (*cell.final, *cell.cost, *cell.tuning):
        count = record.trained_parameters
        count = record.measured.get("trained_parameters") if count is None else count
        if count is not None:
            return float(count)
    return None


def find_contradiction(
    measured: Measurements, run: Run, cell_records: Iterable[Record]
) -> Contradiction | None:
    """Return how the study's steps contradict the step of a solo measurement; None if they do not.

    The solo batch holds the longest examples, so the study's steps are scaled by tokens, and by
    threads if they had more. Their seconds include evaluation, which makes a contradiction less
    likely. Only slower solo steps contradict: alone and with all processors they cannot be slower,
    while the study's steps may be, beside other runs or on a busy machine.

    Args:
        cell_records: ended runs of its cell. Runs of a fleet, with cached activations, or on
            another machine are ignored.
    """
    step = measured.get("step_seconds")
    tokens, mean_tokens = measured.get("batch_tokens"), measured.get("mean_batch_tokens")
    if step is None or not tokens or not mean_tokens:
        return None
    study_steps = []
    solo = measured.get("environment", {})
    for record in cell_records:
        seconds, steps = record.train_seconds, record.steps
        alone = record.measured.get("kept_activations") is False and "fleet" not in record.measured
        if not (seconds and steps and alone and record.run.training == run.training):
            continue
        shared = record.measured.get("environment", {})
        if all(shared.get(key) == solo.get(key) for key in _MACHINE):
            threads = float(shared.get("threads") or 1.0) / float(solo.get("threads") or 1.0)
            study_steps.append(seconds / steps * max(1.0, threads))
    if not study_steps:
        return None
    expected = float(np.median(study_steps)) * tokens / mean_tokens
    if step["median"] <= CONTRADICTION_RATIO * expected:
        return None
    return {
        "own_step_seconds": expected,
        "runs": len(study_steps),
        "ratio": step["median"] / expected,
    }
