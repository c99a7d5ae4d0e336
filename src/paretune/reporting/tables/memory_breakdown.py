"""Where the bytes go: a table of each task, and in words why one method is heavier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from paretune.analysis.resources.memory_breakdown import (
    PART_TITLES,
    RESIDENT_PARTS,
    MemoryBreakdown,
    break_down_memory,
    compare_breakdowns,
    differing_conditions,
    peaks_differ,
)
from paretune.reporting.tables.translation import Grid
from paretune.reporting.text.formatting import (
    format_bytes,
    format_parameters,
    join_names,
    pluralise,
)
from paretune.terminal.sanitise import sanitise_line

if TYPE_CHECKING:
    from paretune.reporting.build import Row

COLUMNS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "activations": "activations",
    "rest": "rest",
    "peak": "peak in training",
}
MERGED = "in the rest"
_CALLED = {
    "batch_size": "batch",
    "micro_batch": "micro-batch",
    "length": "tokens of the longest sequence",
}


def build_memory_grid(rows: Sequence[Row]) -> Grid | None:
    """A row for each cell whose parts were counted; None where there is none.

    Args:
        rows: of one task, those that carry a cost measurement.
    """
    found = [(row, parts) for row in rows if (parts := break_down_memory(row.cell.cost))]
    shown = [(row, parts) for row, parts in found if parts.counted]
    if not shown:
        return None
    most = max(parts.measurements for _, parts in shown)
    basis = "One solo measurement each, in a fresh process."
    if most > 1:
        basis = f"Means over the solo measurements of a cell, {most} at most."
    return Grid(
        title="Where the bytes go",
        above=f"{basis} The parts add up to the peak.",
        titles=tuple(COLUMNS.values()),
        rows=tuple((row, _texts(parts)) for row, parts in shown),
        notes=tuple(_notes(shown)),
    )


def _texts(parts: MemoryBreakdown) -> tuple[str, ...]:
    told = dict(parts.stacked_parts)
    texts = [_size(parts.counted.get(name)) for name in RESIDENT_PARTS]
    if "working" in told:
        texts += [MERGED, format_bytes(told["working"])]
    else:
        texts += [_size(parts.counted.get("activations")), _size(told.get("rest"))]
    return (*texts, _size(parts.peak))


def _size(value: float | None) -> str:
    return "–" if value is None else format_bytes(value) if value else "0"


def _notes(shown: Sequence[tuple[Row, MemoryBreakdown]]) -> Iterable[str]:
    yield (
        "Weights, gradients and optimiser states are counted tensor by tensor; activations are "
        "what one forward pass saves for its backward pass; the rest is temporary results and "
        "holes."
    )
    together = [(row, p) for row, p in shown if p.stacked_parts and p.rest is None]
    longer = [(row, p) for row, p in together if "activations" in p.counted]
    if longer:
        sizes = [f"{format_bytes(p.counted['activations'])} for {row.title}" for row, p in longer]
        yield (
            f"{MERGED}: the pass that was counted saves more ({join_names(sizes)}) than there "
            "was room for under the peak, as where a step takes its batch in shorter passes; so "
            "activations and temporary results cannot be told apart."
        )
    if beyond := [row.title for row, p in shown if p.peak is not None and not p.stacked_parts]:
        yield (
            f"The parts of {join_names(beyond)} do not add up to the peak: one was not counted, "
            "or pages that nobody touched are counted and not resident."
        )
    absent: dict[str, list[str]] = {}
    for row, parts in shown:
        for name, why in parts.missing.items():
            said = f"{COLUMNS[name]}: {sanitise_line(why)}"
            absent.setdefault(said, []).append(row.title)
    for said, names in absent.items():
        yield f"Not known for {join_names(names)}: {said}."


def explain_memory_difference(row: Row, other: Row) -> tuple[str, ...]:
    """Why one method is heavier than another of the same task and model, in sentences.

    Args:
        row: the method that is asked about.
        other: the one beside it.
    """
    a, b = (break_down_memory(one.cell.cost) for one in (row, other))
    if a is None or b is None or a.peak is None or b.peak is None:
        return tuple(_unknown([(row, a), (other, b)]))
    first = f"{row.method} took {format_bytes(a.peak)} at its peak in training, {other.method} "
    first += f"{format_bytes(b.peak)}: {_more(a.peak - b.peak)}."
    return (first, *_why(row.method, a, other.method, b))


def _unknown(pair: Sequence[tuple[Row, MemoryBreakdown | None]]) -> Iterable[str]:
    for row, parts in pair:
        if parts is None or parts.peak is None:
            reason = parts.missing["peak"] if parts else row.cost.memory.text
            yield f"The peak of {row.method} in training is not known: {sanitise_line(reason)}."


def _why(name: str, a: MemoryBreakdown, beside: str, b: MemoryBreakdown) -> Iterable[str]:
    yield _basis(a, b)
    if differing := differing_conditions(a, b):
        said = [
            f"{_CALLED.get(key, key)} {ours} against {theirs}" for key, ours, theirs in differing
        ]
        yield (
            f"They were not measured under the same conditions ({join_names(said)}), so the "
            "difference is not the methods' alone."
        )
    if a.peak != b.peak and not peaks_differ(a, b):
        yield (
            "That is no more than one measurement on a CPU differs from the next: the peaks have "
            "not been told apart."
        )
    found = compare_breakdowns(a, b)
    if not found:
        who = [one for one, parts in ((name, a), (beside, b)) if parts.working is None]
        yield f"Where it lies is not known: the parts of {join_names(who)} do not add up."
        return
    yield "Where the difference lies, largest first; the lines add up to it:"
    for gap in found:
        sizes = f"{_size(gap.a)} against {_size(gap.b)}"
        yield f"  {PART_TITLES[gap.part]}: {_more(gap.difference)} ({sizes})"
    if any(gap.part == "working" for gap in found) and (a.rest is None or b.rest is None):
        yield (
            "Activations and temporary results are one line, since the pass that was counted saves "
            "more than there was room for under a peak."
        )
    if a.trained is not None and b.trained is not None and a.trained != b.trained:
        yield (
            f"{name} trains {format_parameters(a.trained)} parameters, {beside} "
            f"{format_parameters(b.trained)}: gradients and optimiser states follow from that."
        )


def _basis(a: MemoryBreakdown, b: MemoryBreakdown) -> str:
    if a.measurements == b.measurements == 1:
        return "One solo measurement each, in a fresh process; no interval can be given."
    return (
        f"Means of {pluralise(a.measurements, 'solo measurement')} and of {b.measurements}, "
        "each in a fresh process."
    )


def _more(difference: float) -> str:
    if abs(difference) < 0.5:
        return "no difference"
    return f"{format_bytes(abs(difference))} {'more' if difference > 0 else 'less'}"
