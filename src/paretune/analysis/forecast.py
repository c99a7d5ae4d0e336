"""Predicted time and memory of a run, from first principles and from runs on this machine.

First principles say how methods differ: operations of a step, bytes that must be allocated, bytes
that a forward pass saves (:class:`~paretune.store.record.ComputeCost`, known before the
run starts). The speed of a machine and the memory of its libraries are unknown; they are fitted to
ended runs of the same model on the same device, one number each::

    seconds    = steps * operations / operations_per_second
    peak_bytes = held_bytes + saved_bytes + residual_bytes

Both are medians over runs, so that one run on a busy machine changes little. The residual
(temporary results, fragmentation, libraries) is added, since the rule of thumb counts what a pass
saves well: a factor was less accurate where passes differ in length.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.methods.baselines import WITH_MODEL
from paretune.store.record import ComputeCost, Record


@dataclass(frozen=True)
class CostModel:
    """Fitted constants of one model on one device; None if no run gives them.

    Attributes:
        residual_bytes: measured peak minus counted bytes.
    """

    operations_per_second: float | None
    speed_runs: int
    residual_bytes: float | None
    residual_runs: int

    def predict_seconds(self, work: ComputeCost, steps: int) -> float | None:
        """Seconds of training and evaluation, of which the fitted runs had as much."""
        if self.operations_per_second is None:
            return None
        return steps * work.operations / self.operations_per_second

    def predict_peak_bytes(self, work: ComputeCost) -> float | None:
        """Peak memory above that of the process before the model is loaded."""
        if self.residual_bytes is None:
            return None
        # The residual is negative if mapped weights are counted that were never read.
        return max(0.0, work.held_bytes + work.saved_bytes + self.residual_bytes)


def fit_cost_model(runs: Iterable[tuple[Record, ComputeCost]]) -> CostModel:
    """Fit one model on one device to its ended runs.

    Probes are ignored: they run the backbone once and cache its outputs.
    """
    speeds, residuals = [], []
    for record, work in runs:
        if record.run.method.name in WITH_MODEL:
            continue
        timing = seconds_of(record)
        if timing is not None and work.operations > 0:
            seconds, steps = timing
            speeds.append(work.operations * steps / seconds)
        peak = peak_of(record)
        if peak is not None:
            residuals.append(peak - work.held_bytes - work.saved_bytes)
    return CostModel(
        statistics.median(speeds) if speeds else None,
        len(speeds),
        statistics.median(residuals) if residuals else None,
        len(residuals),
    )


def seconds_of(record: Record) -> tuple[float, int] | None:
    """Seconds of training and the evaluation after it, and steps; None if unknown or a cost run."""
    if record.run.stage == "cost" or not record.train_seconds or not record.steps:
        return None
    return record.train_seconds + record.measured["wall_seconds"].get("evaluation", 0), record.steps


def peak_of(record: Record) -> float | None:
    """Measured peak memory of training; None unless it is a cost run that fitted."""
    if record.run.stage != "cost" or record.outcome != "ok":
        return None
    return record.peak_bytes


def device_of(record: Record) -> str:
    """``cpu``, ``cuda NVIDIA ...``: the device to which a speed belongs."""
    environment = record.measured.get("environment", {})
    device = environment.get("device", "").split(":")[0]
    return f"{device} {environment.get('device_name', '')}".rstrip()


@dataclass(frozen=True)
class Backtest:
    """Predictions of one cell against its measurements: (predicted, measured) of each run.

    Attributes:
        model: from which they are predicted.
        seconds: of final runs, for the steps that they took.
        peaks: of cost runs, in bytes.
    """

    cell: Cell
    model: CostModel
    seconds: tuple[tuple[float, float], ...]
    peaks: tuple[tuple[float, float], ...]


def backtest_predictions(cells: Sequence[Cell]) -> list[Backtest]:
    """Predict each cell as before its first run, from the other methods of its model only.

    Runs on another device are ignored. Cells without a model, probes, and cells without a
    prediction are left out.
    """
    by_cell = [
        (cell, [(r, work) for r in cell.runs if (work := ComputeCost.from_record(r)) is not None])
        for cell in cells
        if cell.model != NO_MODEL
    ]
    backtests = []
    for cell, runs in by_cell:
        if not runs or cell.name in WITH_MODEL:
            continue
        device = device_of(runs[-1][0])
        model = fit_cost_model(
            (record, work)
            for source, source_runs in by_cell
            if source.model == cell.model and source.method != cell.method
            for record, work in source_runs
            if device_of(record) == device
        )
        seconds, peaks = [], []
        for record, work in runs:
            timing, peak = seconds_of(record), peak_of(record)
            if timing is not None and record.run.stage == "final":
                measured, steps = timing
                if (predicted := model.predict_seconds(work, steps)) is not None:
                    seconds.append((predicted, measured))
            if peak is not None and (predicted := model.predict_peak_bytes(work)) is not None:
                peaks.append((predicted, peak))
        if seconds or peaks:
            backtests.append(Backtest(cell, model, tuple(seconds), tuple(peaks)))
    return backtests
