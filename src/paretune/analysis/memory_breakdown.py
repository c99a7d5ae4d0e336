"""Explains where the bytes of training go, and why one method needs more than another.

A cost run counts tensors (weights, gradients, optimiser states, activations saved by one forward
pass) and, independently, measures the peak in training. Weights, gradients and optimiser states are
allocated at the peak; what remains is activations and temporary results::

    peak = weights + gradients + optimiser states + working
    working = activations + rest

The last line holds only if the step kept what the counted pass saves. If it split its batch into
micro-batches, the counted pass may save more than ``working``: then the two cannot be separated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.store.record import Record

RESIDENT_PARTS = ("weights", "gradients", "optimizer")
"""Parts that are allocated during the whole step."""
PART_TITLES = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser states",
    "activations": "activations",
    "rest": "the rest (temporary results, fragmentation)",
    "working": "activations and temporary results",
}
CPU_REPEATABILITY = 0.05
"""The share by which two CPU measurements of one run differ at most, approximately."""
CONDITIONS = (
    "device",
    "device_name",
    "threads",
    "precision",
    "batch_size",
    "micro_batch",
    "length",
)
"""Keys of ``measured`` that must be equal for two peaks to be comparable."""


@dataclass(frozen=True)
class MemoryBreakdown:
    """Bytes of one cell's training by part: means over its solo measurements.

    Attributes:
        peak: bytes at the peak in training; None where it was not measured.
        counted: bytes of ``weights`` (parameters and buffers), ``gradients``, ``optimizer`` (its
            states) and ``activations`` (what one forward pass saves for its backward pass), if
            counted.
        missing: why further parts (or ``peak``) are missing.
        measurements: number of solo measurements.
        trained: number of trained parameters; None where it is not known.
        conditions: all values of each condition of the measurements.
    """

    peak: float | None
    counted: Mapping[str, float]
    missing: Mapping[str, str]
    measurements: int
    trained: int | None
    conditions: Mapping[str, Sequence[str]]

    @property
    def working(self) -> float | None:
        """The peak minus weights, gradients and optimiser states; None if unknown."""
        if self.peak is None or any(name not in self.counted for name in RESIDENT_PARTS):
            return None
        remaining = self.peak - sum(self.counted[name] for name in RESIDENT_PARTS)
        # A page of mapped weights that was never read is counted and not resident.
        return remaining if remaining >= 0 else None

    @property
    def rest(self) -> float | None:
        """Temporary results and fragmentation; None if activations cannot be subtracted."""
        saved = self.counted.get("activations")
        if self.working is None or saved is None or saved > self.working:
            return None
        return self.working - saved

    @property
    def stack(self) -> tuple[tuple[str, float], ...]:
        """The parts that add up to the peak, from the bottom; none where they do not."""
        if self.working is None:
            return ()
        resident = [(name, self.counted[name]) for name in RESIDENT_PARTS]
        if self.rest is None:
            return (*resident, ("working", self.working))
        return (*resident, ("activations", self.counted["activations"]), ("rest", self.rest))


@dataclass(frozen=True)
class PartDifference:
    """The bytes of one part for two methods."""

    part: str
    a: float
    b: float

    @property
    def difference(self) -> float:
        """The bytes of ``a`` minus those of ``b``."""
        return self.a - self.b


def break_down_memory(cost: Sequence[Record]) -> MemoryBreakdown | None:
    """Average the cost runs of one cell; None if none of them measured anything.

    Args:
        cost: records of stage ``cost``, of one setting.
    """
    measurements: list[Mapping[str, Any]] = [r.measured for r in cost if r.measured]
    if not measurements:
        return None
    last = measurements[-1]
    reasons: Mapping[str, str] = last.get("not_measured") or {}
    counted, missing = {}, {}
    for name in (*RESIDENT_PARTS, "activations"):
        mean = _mean([(m.get("components") or {}).get(f"{name}_bytes") for m in measurements])
        if mean is None:
            missing[name] = reasons.get(f"{name}_bytes") or reasons.get("train") or "not counted"
        else:
            counted[name] = mean
    phases = [(m.get("phases") or {}).get("train") or {} for m in measurements]
    peak = _mean([phase.get("peak_bytes") for phase in phases])
    if peak is None:
        missing["peak"] = next(
            (reasons[key] for key in _PEAK_REASONS if key in reasons), "not measured"
        )
    trained = [r.result.get("trained_parameters") for r in cost]
    return MemoryBreakdown(
        peak=peak,
        counted=counted,
        missing=missing,
        measurements=len(measurements),
        trained=next((int(count) for count in trained if count is not None), None),
        conditions={
            key: sorted({str(measured[key]) for measured in measurements if key in measured})
            for key in CONDITIONS
        },
    )


_PEAK_REASONS = ("phases.train.peak_bytes", "phases.train", "peak_bytes", "train", "phases")


def compare_breakdowns(a: MemoryBreakdown, b: MemoryBreakdown) -> tuple[PartDifference, ...]:
    """Compare the parts, the largest difference first; differences sum to that of the peaks.

    Activations and the rest are one part if they cannot be separated for either method. The result
    is empty if the parts of one method are unknown.
    """
    if a.working is None or b.working is None:
        return ()
    sizes = {**a.counted, "working": a.working, "rest": a.rest or 0.0}
    sizes_b = {**b.counted, "working": b.working, "rest": b.rest or 0.0}
    merged = a.rest is None or b.rest is None
    names = (*RESIDENT_PARTS, *(("working",) if merged else ("activations", "rest")))
    differences = [PartDifference(name, sizes[name], sizes_b[name]) for name in names]
    return tuple(sorted(differences, key=lambda part: -abs(part.difference)))


def differing_conditions(
    a: MemoryBreakdown, b: MemoryBreakdown
) -> tuple[tuple[str, str, str], ...]:
    """Return conditions in which two measurements differ: name, value of ``a``, value of ``b``."""
    return tuple(
        (key, ", ".join(a.conditions[key]), ", ".join(b.conditions[key]))
        for key in CONDITIONS
        if a.conditions[key] and b.conditions[key] and a.conditions[key] != b.conditions[key]
    )


def peaks_differ(a: MemoryBreakdown, b: MemoryBreakdown) -> bool:
    """Return whether the peaks differ by more than repeated measurements do."""
    if a.peak is None or b.peak is None:
        return False
    on_cpu = any("cpu" in (side.conditions["device"] or ["cpu"]) for side in (a, b))
    least = CPU_REPEATABILITY * max(a.peak, b.peak) if on_cpu else 0.0
    return abs(a.peak - b.peak) > least


def _mean(values: Sequence[float | None]) -> float | None:
    present = [float(value) for value in values if value is not None]
    return sum(present) / len(present) if present else None
