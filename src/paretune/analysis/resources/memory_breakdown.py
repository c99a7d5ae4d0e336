"""Where the bytes of training go, and why one method is heavier than another.

A cost run counts tensors (weights, gradients, optimiser states, what one forward pass saves) and,
apart from that, measures the peak in training. Weights, gradients and optimiser states lie there at
the peak; what is between them and the peak is activations and temporary results::

    peak = weights + gradients + optimiser states + working
    working = activations + rest

The last line holds only where the step kept what the counted pass saves. Where it took its batch in
shorter passes, the counted one may save more than ``working``: then the two are not told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.store.record import Record

RESIDENT_PARTS = ("weights", "gradients", "optimizer")
"""What lies in memory through the whole step."""
PART_TITLES = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser states",
    "activations": "activations",
    "rest": "the rest (temporary results, holes)",
    "working": "activations and temporary results",
}
CPU_REPEATABILITY = 0.05
"""On a CPU two measurements of one run differ by up to about this share (docs/measuring.md)."""
CONDITIONS = (
    "device",
    "device_name",
    "threads",
    "precision",
    "batch_size",
    "micro_batch",
    "length",
)
"""What must be equal for two peaks to be comparable; keys of ``measured``."""


@dataclass(frozen=True)
class MemoryBreakdown:
    """Bytes of one cell's training by part: means over its solo measurements.

    ``counted`` holds those of ``weights``, ``gradients``, ``optimizer`` and ``activations`` that
    were counted, ``missing`` why the others (or ``peak``) were not. ``conditions``: under which
    each measurement was made, without repetition.
    """

    peak: float | None
    counted: Mapping[str, float]
    missing: Mapping[str, str]
    measurements: int
    trained: int | None
    conditions: tuple[tuple[tuple[str, Any], ...], ...]

    @property
    def working(self) -> float | None:
        """Activations and temporary results at the peak; None where that cannot be told."""
        if self.peak is None or any(name not in self.counted for name in RESIDENT_PARTS):
            return None
        left = self.peak - sum(self.counted[name] for name in RESIDENT_PARTS)
        # A page of mapped weights that nobody touched is counted and not resident.
        return left if left >= 0 else None

    @property
    def rest(self) -> float | None:
        """Temporary results and holes; None where activations cannot be told apart from them."""
        saved = self.counted.get("activations")
        if self.working is None or saved is None or saved > self.working:
            return None
        return self.working - saved

    @property
    def stacked_parts(self) -> tuple[tuple[str, float], ...]:
        """Parts that add up to the peak, from the bottom; none where they do not."""
        if self.working is None:
            return ()
        held = [(name, self.counted[name]) for name in RESIDENT_PARTS]
        if self.rest is None:
            return (*held, ("working", self.working))
        return (*held, ("activations", self.counted["activations"]), ("rest", self.rest))


@dataclass(frozen=True)
class PartDifference:
    """One part of two methods: bytes of each, and how many more ``a`` has."""

    part: str
    a: float
    b: float

    @property
    def difference(self) -> float:
        """``a`` less ``b``."""
        return self.a - self.b


def break_down_memory(cost: Sequence[Record]) -> MemoryBreakdown | None:
    """What the cost runs of one cell say; None where none of them measured anything.

    Args:
        cost: records of stage ``cost``, of one setting.
    """
    there = [record.measured for record in cost if record.measured]
    if not there:
        return None
    last = there[-1]
    reasons: Mapping[str, str] = last.get("not_measured") or {}
    counted, missing = {}, {}
    for name in (*RESIDENT_PARTS, "activations"):
        mean = _mean([(m.get("components") or {}).get(f"{name}_bytes") for m in there])
        if mean is None:
            missing[name] = reasons.get(f"{name}_bytes") or reasons.get("train") or "not counted"
        else:
            counted[name] = mean
    phases = [(m.get("phases") or {}).get("train") or {} for m in there]
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
        measurements=len(there),
        trained=next((int(count) for count in trained if count is not None), None),
        conditions=tuple(dict.fromkeys(_conditions(measured) for measured in there)),
    )


def _conditions(measured: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple((key, measured[key]) for key in CONDITIONS if key in measured)


_PEAK_REASONS = ("phases.train.peak_bytes", "phases.train", "peak_bytes", "train", "phases")


def compare_breakdowns(a: MemoryBreakdown, b: MemoryBreakdown) -> tuple[PartDifference, ...]:
    """The parts of both, the largest difference first; they add up to that of the peaks.

    Activations and the rest are one part where either method cannot tell them apart. Empty where
    the parts of one are not known.
    """
    if a.working is None or b.working is None:
        return ()
    found = [PartDifference(name, a.counted[name], b.counted[name]) for name in RESIDENT_PARTS]
    if a.rest is None or b.rest is None:
        found.append(PartDifference("working", a.working, b.working))
    else:
        saved = (one.counted["activations"] for one in (a, b))
        found += [PartDifference("activations", *saved), PartDifference("rest", a.rest, b.rest)]
    return tuple(sorted(found, key=lambda gap: -abs(gap.difference)))


def differing_conditions(
    a: MemoryBreakdown, b: MemoryBreakdown
) -> tuple[tuple[str, str, str], ...]:
    """Conditions in which two measurements differ: name, of ``a``, of ``b``."""
    seen = []
    for key in CONDITIONS:
        ours, theirs = (
            sorted({str(dict(one)[key]) for one in parts.conditions if key in dict(one)})
            for parts in (a, b)
        )
        if ours and theirs and ours != theirs:
            seen.append((key, ", ".join(ours), ", ".join(theirs)))
    return tuple(seen)


def peaks_differ(a: MemoryBreakdown, b: MemoryBreakdown) -> bool:
    """Whether the peaks differ by more than one measurement on a CPU does from the next."""
    if a.peak is None or b.peak is None:
        return False
    on_cpu = any(dict(one).get("device", "cpu") == "cpu" for p in (a, b) for one in p.conditions)
    least = CPU_REPEATABILITY * max(a.peak, b.peak) if on_cpu else 0.0
    return abs(a.peak - b.peak) > least


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
