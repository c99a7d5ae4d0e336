"""What a run takes, from first principles and from what this machine's own runs took.

First principles say how methods differ: operations of a step, bytes that must be held, bytes that
a forward pass saves (:class:`~paretune.measuring.compute_cost.ComputeCost`, known before the run
starts). What they
cannot know is how fast a machine is and what its libraries need beside; that is fitted to ended
runs of the same model on the same device, one number each::

    seconds    = steps * operations / speed
    peak_bytes = held + saved + rest

Both are medians over runs, so that one run on a busy machine changes little. The rest (temporary
results, holes of the allocator, libraries) is added, since what a pass saves is counted well by
rule of thumb: a factor on it was further off where passes differ in length (docs/statistics.md).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.analysis.cells import NO_MODEL, PROBES, Cell
from paretune.analysis.pareto.costs import value_at
from paretune.measuring.compute_cost import ComputeCost
from paretune.store.record import Record


@dataclass(frozen=True)
class CostModel:
    """Operations a second, and the rest of the bytes; None where no run told."""

    operations_per_second: float | None
    speed_runs: int
    residual_bytes: float | None
    residual_runs: int

    def predict_seconds(self, work: ComputeCost, steps: int) -> float | None:
        """Of training, evaluation included as it was in the runs that were fitted."""
        return (
            None
            if self.operations_per_second is None
            else steps * work.operations / self.operations_per_second
        )

    def predict_peak_bytes(self, work: ComputeCost) -> float | None:
        """Above the process before the model."""
        if self.residual_bytes is None:
            return None
        # The rest is negative where mapped weights are counted that nobody touched.
        return max(0.0, work.held_bytes + work.saved_bytes + self.residual_bytes)


def fit_cost_model(told: Iterable[tuple[Record, ComputeCost]]) -> CostModel:
    """One model on one device, from its ended runs.

    Probes are no basis: what they train reads the backbone once and keeps what it said.
    """
    speeds, rests = [], []
    for record, work in told:
        if record.run.method.name in PROBES:
            continue
        taken = seconds_of(record)
        if taken is not None and work.operations > 0:
            speeds.append(work.operations * taken[1] / taken[0])
        peak = peak_of(record)
        if peak is not None:
            rests.append(peak - work.held_bytes - work.saved_bytes)
    return CostModel(
        statistics.median(speeds) if speeds else None,
        len(speeds),
        statistics.median(rests) if rests else None,
        len(rests),
    )


def seconds_of(record: Record) -> tuple[float, int] | None:
    """Seconds that a run trained, and its steps; None for a cost run or where it is not known."""
    seconds = value_at(record.measured, ("wall_seconds", "train"))
    steps = record.result.get("steps")
    if record.run.stage == "cost" or not seconds or not steps:
        return None
    return seconds, int(steps)


def peak_of(record: Record) -> float | None:
    """Its measured peak in training: of a cost run that fitted."""
    if record.run.stage != "cost" or record.outcome != "ok":
        return None
    return value_at(record.measured, ("phases", "train", "peak_bytes"))


def device_of(record: Record) -> str:
    """``cpu``, ``cuda NVIDIA ...``: what a speed belongs to."""
    environment: Any = record.measured.get("environment") or {}
    device = str(environment.get("device", "")).split(":")[0]
    return f"{device} {environment.get('device_name', '')}".rstrip()


@dataclass(frozen=True)
class Backtest:
    """What was predicted of one cell, and what came: (predicted, measured) of each run.

    ``seconds`` are of final runs at the steps that they made, ``peaks`` of cost runs.
    ``basis_seconds`` and ``basis_peaks`` count the runs that they are predicted from.
    """

    cell: Cell
    seconds: tuple[tuple[float, float], ...]
    peaks: tuple[tuple[float, float], ...]
    basis_seconds: int
    basis_peaks: int


def backtest_predictions(cells: Sequence[Cell]) -> list[Backtest]:
    """Each cell predicted as before its first run: from the other methods of its model only.

    Runs on another device are no basis. Cells without a model, probes, and those that nothing can
    be predicted for are left out.

    Args:
        cells: of one or several tasks.
    """
    told = [
        (cell, record, work)
        for cell in cells
        for record in (*cell.tuning, *cell.final, *cell.cost)
        if cell.model != NO_MODEL and (work := ComputeCost.from_record(record)) is not None
    ]
    found = []
    for cell in cells:
        own = [(record, work) for whose, record, work in told if whose is cell]
        if not own or cell.name in PROBES:
            continue
        device = device_of(own[-1][0])
        others = fit_cost_model(
            (record, work)
            for whose, record, work in told
            if whose.model == cell.model
            and whose.method != cell.method
            and device_of(record) == device
        )
        seconds, peaks = [], []
        for record, work in own:
            taken, peak = seconds_of(record), peak_of(record)
            if taken is not None and record.run.stage == "final":
                seconds.append((others.predict_seconds(work, taken[1]), taken[0]))
            if peak is not None:
                peaks.append((others.predict_peak_bytes(work), peak))
        if found_one := _build_backtest(cell, seconds, peaks, others):
            found.append(found_one)
    return found


def _build_backtest(
    cell: Cell,
    seconds: Iterable[tuple[float | None, float]],
    peaks: Iterable[tuple[float | None, float]],
    others: CostModel,
) -> Backtest | None:
    both = [
        tuple((predicted, measured) for predicted, measured in pairs if predicted is not None)
        for pairs in (seconds, peaks)
    ]
    if not any(both):
        return None
    return Backtest(cell, both[0], both[1], others.speed_runs, others.residual_runs)
