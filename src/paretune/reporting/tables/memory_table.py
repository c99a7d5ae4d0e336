"""The table of peak memory by part: weights, gradients, optimiser states, activations, the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.memory_breakdown import RESIDENT_PARTS, MemoryBreakdown
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import format_bytes, format_part, join_names
from paretune.terminal.sanitise import sanitise_line

COLUMNS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "activations": "activations",
    "rest": "rest",
    "peak": "peak in training",
}
MERGED = "in the rest"
"""Text for activations that cannot be separated from temporary results."""

_Measured = Sequence[tuple[Row, MemoryBreakdown]]


def build_memory_grid(rows: Sequence[Row]) -> Grid | None:
    """A line for each row of which some part was counted; None where there is none."""
    measured = [(row, row.memory) for row in rows if row.memory and row.memory.counted]
    if not measured:
        return None
    most = max(memory.measurements for _, memory in measured)
    basis = "One solo measurement each, in a fresh process."
    if most > 1:
        basis = f"Means over the solo measurements of a cell, {most} at most."
    return Grid(
        title="Where the bytes go",
        above=f"{basis} The parts add up to the peak.",
        titles=tuple(COLUMNS.values()),
        rows=tuple((row, _format_parts(memory)) for row, memory in measured),
        notes=tuple(_write_notes(measured)),
    )


def _format_parts(memory: MemoryBreakdown) -> tuple[str, ...]:
    stacked = dict(memory.stacked_parts)
    texts = [format_part(memory.counted.get(name)) for name in RESIDENT_PARTS]
    if "working" in stacked:
        texts += [MERGED, format_bytes(stacked["working"])]
    else:
        texts += [format_part(memory.counted.get("activations")), format_part(stacked.get("rest"))]
    return (*texts, format_part(memory.peak))


def _write_notes(measured: _Measured) -> Iterable[str]:
    yield (
        "Weights, gradients and optimiser states are counted tensor by tensor; activations are "
        "what one forward pass saves for its backward pass; the rest is temporary results and "
        "fragmentation."
    )
    merged = [(row, m) for row, m in measured if m.stacked_parts and m.rest is None]
    counted = [(row, m.counted["activations"]) for row, m in merged if "activations" in m.counted]
    if counted:
        sizes = [f"{format_bytes(size)} for {row.title}" for row, size in counted]
        yield (
            f"{MERGED}: the counted forward pass saves more ({join_names(sizes)}) than there was "
            "room for under the peak, for example where a step takes its batch in several passes; "
            "activations and temporary results cannot be separated then."
        )
    if unequal := [row.title for row, m in measured if m.peak is not None and not m.stacked_parts]:
        yield (
            f"The parts of {join_names(unequal)} do not add up to the peak: one was not counted, "
            "or pages that were never touched are counted and not resident."
        )
    reasons: dict[str, list[str]] = {}
    for row, memory in measured:
        for name, reason in memory.missing.items():
            text = f"{COLUMNS[name]}: {sanitise_line(reason)}"
            reasons.setdefault(text, []).append(row.title)
    for text, names in reasons.items():
        yield f"Not known for {join_names(names)}: {text}."
