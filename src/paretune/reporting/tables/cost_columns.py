"""What the solo measurement of a cell says; what it could not measure says why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.pareto.costs import count_trained_parameters
from paretune.reporting.text.formatting import format_bytes, format_parameters, format_seconds
from paretune.store.record import Record
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class CostValue:
    """A measured quantity; ``value`` is None where it is absent, and ``text`` says why."""

    value: float | None
    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Cost:
    """One cell's cost. ``conditions`` and ``counter`` say how it was measured."""

    memory: CostValue
    step: CostValue
    trained: CostValue
    saved: CostValue
    evaluation: CostValue
    latency: CostValue
    energy: CostValue
    conditions: str
    counter: str


@dataclass(frozen=True)
class CostTable:
    """Costs of several cells: columns with values, and the quantities that no cell has."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    absent: tuple[str, ...]


_COLUMNS: dict[str, tuple[str, Callable[[Cost], CostValue]]] = {
    "memory": ("peak in training", lambda cost: cost.memory),
    "evaluation": ("peak in evaluation", lambda cost: cost.evaluation),
    "step": ("step, median (quartiles)", lambda cost: cost.step),
    "latency": ("inference per example", lambda cost: cost.latency),
    "trained": ("trained parameters", lambda cost: cost.trained),
    "saved": ("saved", lambda cost: cost.saved),
    "energy": ("energy of a step", lambda cost: cost.energy),
}


def build_cost_table(costs: Sequence[Cost], only: Collection[str] = ()) -> CostTable:
    """A quantity that is absent in every cell is listed once with its reasons, not in every row.

    Args:
        only: the fields of :class:`Cost` that become columns; all by default.
    """
    present: list[tuple[str, list[str]]] = []
    absent = []
    for name, (title, value_of) in _COLUMNS.items():
        if only and name not in only:
            continue
        values = [value_of(cost) for cost in costs]
        texts = [value.text for value in values]
        if all(value.value is None for value in values):
            absent.append(f"{title}: {'; '.join(dict.fromkeys(texts))}")
        else:
            present.append((title, texts))
    if not present:
        return CostTable((), ((),) * len(costs), tuple(absent))
    titles, columns = zip(*present, strict=True)
    return CostTable(tuple(titles), tuple(zip(*columns, strict=True)), tuple(absent))


def summarise_cost(cell: Cell) -> Cost:
    """The cost of a cell: means over its solo measurements."""
    step = _summarise(cell, ("step_seconds", "median"), format_seconds)
    if step.value is not None and len(cell.cost) == 1:
        quartiles = cell.cost[0].measured["step_seconds"]
        if quartiles is not None:
            text = format_seconds(step.value, quartiles["q1"], quartiles["q3"])
            step = CostValue(step.value, text)
    return Cost(
        memory=_summarise(cell, ("phases", "train", "peak_bytes"), format_bytes),
        step=step,
        trained=_count_trained(cell),
        saved=_summarise(cell, ("saved_bytes",), format_bytes),
        evaluation=_summarise(cell, ("phases", "evaluation", "peak_bytes"), format_bytes),
        latency=_summarise(cell, ("inference", "unmerged_seconds_per_example"), format_seconds),
        energy=_summarise(cell, ("energy", "joules"), lambda joules: f"{joules:.3g} J"),
        conditions=_describe_conditions(cell),
        counter=sanitise_line(str(cell.cost[-1].measured.get("peak_counter", "")))
        if cell.cost
        else "",
    )


def _summarise(cell: Cell, key: tuple[str, ...], format_: Callable[[float], str]) -> CostValue:
    if cell.model == NO_MODEL:
        return CostValue(None, "trains no model")
    values = [v for v in (_value_at(r.measured, key) for r in cell.cost) if v is not None]
    if not values:
        return CostValue(None, f"not measured: {_find_reason(cell, key)}")
    mean = float(np.mean(values))
    if len(values) == 1:
        return CostValue(mean, format_(mean))
    low, high = min(values), max(values)
    return CostValue(mean, f"{format_(mean)} ({format_(low)} to {format_(high)})", low, high)


def _value_at(measured: Mapping[str, Any], key: tuple[str, ...]) -> float | None:
    """The number under these keys, by which also reasons are stored; None without one."""
    value: Any = measured
    for part in key:
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _find_reason(cell: Cell, key: tuple[str, ...]) -> str:
    if not cell.cost:
        return "no solo measurement yet"
    last: Record = cell.cost[-1]
    if last.outcome == "out_of_memory":
        return "the measurement ran out of memory"
    if last.outcome == "error":
        return "the measurement stopped with an error"
    reasons: Mapping[str, str] = last.measured.get("not_measured", {})
    # The most specific reason first: phases.train.peak_bytes, phases.train, phases; peak_bytes.
    for depth in range(len(key), 0, -1):
        if reason := reasons.get(".".join(key[:depth])) or reasons.get(key[depth - 1]):
            return sanitise_line(reason)
    return "the measurement does not have it"


def _count_trained(cell: Cell) -> CostValue:
    count = count_trained_parameters(cell)
    if count is not None:
        return CostValue(count, format_parameters(count))
    if cell.model == NO_MODEL:
        return CostValue(None, "trains no model")
    return CostValue(None, "not known yet")


def _describe_conditions(cell: Cell) -> str:
    if not cell.cost:
        return ""
    measured: Mapping[str, object] = cell.cost[-1].measured
    forms = {
        "device": "{}",
        "device_name": "{}",
        "threads": "{} threads",
        "batch_size": "batch {}",
        "length": "{} tokens",
    }
    parts = [form.format(measured[key]) for key, form in forms.items() if measured.get(key)]
    return sanitise_line(", ".join(parts))
