"""Why one method takes more memory than another, in sentences."""

from __future__ import annotations

from collections.abc import Iterable

from paretune.analysis.cell import Cell
from paretune.analysis.memory_breakdown import (
    PART_TITLES,
    MemoryBreakdown,
    break_down_memory,
    compare_breakdowns,
    differing_conditions,
    peaks_differ,
)
from paretune.methods.core.titles import title_of
from paretune.reporting.tables.cost_columns import summarise_cost
from paretune.reporting.text.formatting import (
    format_bytes,
    format_parameters,
    format_part,
    join_names,
)
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

_CONDITION_TITLES = {
    "batch_size": "batch",
    "micro_batch": "micro-batch",
    "length": "tokens of the longest sequence",
}


def explain_memory_difference(cell: Cell, other: Cell) -> tuple[str, ...]:
    """Why ``cell`` takes more or less memory than ``other``, of the same task."""
    names = [title_of(one.method) for one in (cell, other)]
    if cell.model != other.model:
        names = [f"{title_of(one.method)} on {one.model}" for one in (cell, other)]
    name, other_name = map(sanitise_line, names)
    a, b = break_down_memory(cell.cost), break_down_memory(other.cost)
    if a is None or b is None or a.peak is None or b.peak is None:
        return (*_explain_unknown(cell, a), *_explain_unknown(other, b))
    peaks = (
        f"Peak memory in training: {format_bytes(a.peak)} with {name}, {format_bytes(b.peak)} with "
        f"{other_name}, {_format_difference(a.peak - b.peak)}."
    )
    return (peaks, *_explain(name, a, other_name, b))


def _explain_unknown(cell: Cell, memory: MemoryBreakdown | None) -> Iterable[str]:
    if memory is None or memory.peak is None:
        reason = memory.missing["peak"] if memory else summarise_cost(cell).memory.text
        name = sanitise_line(title_of(cell.method))
        yield f"The peak of {name} in training is not known: {sanitise_line(reason)}."


def _explain(name: str, a: MemoryBreakdown, other_name: str, b: MemoryBreakdown) -> Iterable[str]:
    yield _describe_basis(a, b)
    if differing := differing_conditions(a, b):
        conditions = [
            f"{_CONDITION_TITLES.get(key, key)} {ours} against {theirs}"
            for key, ours, theirs in differing
        ]
        yield (
            f"They were not measured under the same conditions ({join_names(conditions)}), so the "
            "difference is not due to the methods alone."
        )
    if a.peak != b.peak and not peaks_differ(a, b):
        yield (
            "Two measurements of one run on a CPU may differ as much: the peaks cannot be "
            "separated."
        )
    parts = compare_breakdowns(a, b)
    if not parts:
        names = [n for n, memory in ((name, a), (other_name, b)) if memory.working is None]
        yield f"Where it lies is not known: the parts of {join_names(names)} do not add up."
        return
    yield "Where the difference lies, largest first; the lines add up to it:"
    for part in parts:
        sizes = f"{format_part(part.a)} against {format_part(part.b)}"
        yield f"  {PART_TITLES[part.part]}: {_format_difference(part.difference)} ({sizes})"
    if any(part.part == "working" for part in parts) and (a.rest is None or b.rest is None):
        yield (
            "Activations and temporary results are one line, since the counted forward pass saves "
            "more than there was room for under a peak."
        )
    if a.trained is not None and b.trained is not None and a.trained != b.trained:
        yield (
            f"Trained parameters: {format_parameters(a.trained)} with {name}, "
            f"{format_parameters(b.trained)} with {other_name}. Gradients and optimiser states "
            "follow from that."
        )


def _describe_basis(a: MemoryBreakdown, b: MemoryBreakdown) -> str:
    if a.measurements == b.measurements == 1:
        return "One solo measurement each, in a fresh process; no interval can be given."
    return (
        f"Means of {pluralise(a.measurements, 'solo measurement')} and of {b.measurements}, "
        "each in a fresh process."
    )


def _format_difference(difference: float) -> str:
    if abs(difference) < 0.5:
        return "no difference"
    return f"{format_bytes(abs(difference))} {'more' if difference > 0 else 'less'}"
