"""What the solo measurement of a cell says; what it could not measure says why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.pareto.costs import count_trained_parameters
from paretune.reporting.text.formatting import format_bytes, format_parameters, format_seconds
from paretune.store.record import Record
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class CostValue:
    """A measured quantity, or the reason why it is absent; ``value`` is never 0 for absence."""

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
    """Costs of several cells: columns that hold a value, and what nobody could measure."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    absent: tuple[str, ...]


_COLUMNS: tuple[tuple[str, str], ...] = (
    ("memory", "peak in training"),
    ("evaluation", "peak in evaluation"),
    ("step", "step, median (quartiles)"),
    ("latency", "inference per example"),
    ("trained", "trained parameters"),
    ("saved", "saved"),
    ("energy", "energy of a step"),
)


def build_cost_table(costs: Sequence[Cost], only: Collection[str] = ()) -> CostTable:
    """What is absent in every cell is told once with its reasons, not in every row.

    Args:
        costs: of the rows.
        only: the fields of :class:`Cost` that become columns; all by default.
    """
    shown: list[tuple[str, list[str]]] = []
    absent = []
    for name, title in (column for column in _COLUMNS if not only or column[0] in only):
        found: list[CostValue] = [getattr(cost, name) for cost in costs]
        texts = [measured.text for measured in found]
        if all(measured.value is None for measured in found):
            absent.append(f"{title}: {'; '.join(dict.fromkeys(texts))}")
        else:
            shown.append((title, texts))
    if not shown:
        return CostTable((), ((),) * len(costs), tuple(absent))
    titles, columns = zip(*shown, strict=True)
    return CostTable(tuple(titles), tuple(zip(*columns, strict=True)), tuple(absent))


def summarise_cost(cell: Cell) -> Cost:
    """Everything that is known of a cell's cost."""
    step = _measured(cell, ("step_seconds", "median"), format_seconds)
    if step.value is not None and len(cell.cost) == 1:
        quartiles = cell.cost[0].measured["step_seconds"]
        if quartiles is not None:
            text = format_seconds(step.value, quartiles["q1"], quartiles["q3"])
            step = CostValue(step.value, text)
    return Cost(
        memory=_measured(cell, ("phases", "train", "peak_bytes"), format_bytes),
        step=step,
        trained=_trained(cell),
        saved=_measured(cell, ("saved_bytes",), format_bytes),
        evaluation=_measured(cell, ("phases", "evaluation", "peak_bytes"), format_bytes),
        latency=_measured(cell, ("inference", "unmerged_seconds_per_example"), format_seconds),
        energy=_measured(cell, ("energy", "joules"), lambda joules: f"{joules:.3g} J"),
        conditions=_conditions(cell),
        counter=sanitise_line(str(cell.cost[-1].measured.get("peak_counter", "")))
        if cell.cost
        else "",
    )


def _measured(cell: Cell, key: tuple[str, ...], write: Callable[[float], str]) -> CostValue:
    found = [v for v in (_value_at(r.measured, key) for r in cell.cost) if v is not None]
    if cell.model == NO_MODEL:
        return CostValue(None, "trains no model")
    if not found:
        return CostValue(None, f"not measured: {_reason(cell, key)}")
    mean = float(np.mean(found))
    if len(found) == 1:
        return CostValue(mean, write(mean))
    low, high = min(found), max(found)
    return CostValue(mean, f"{write(mean)} ({write(low)} to {write(high)})", low, high)


def _value_at(measured: Mapping[str, Any], key: tuple[str, ...]) -> float | None:
    """The number under these keys, by which also reasons are stored; None without one."""
    value: Any = measured
    for part in key:
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _reason(cell: Cell, key: tuple[str, ...]) -> str:
    if not cell.cost:
        return "no solo measurement yet"
    last: Record = cell.cost[-1]
    if last.outcome == "out_of_memory":
        return "the measurement ran out of memory"
    if last.outcome == "error":
        return "the measurement stopped with an error"
    reasons: Mapping[str, str] = last.measured.get("not_measured", {})
    # The most exact reason first: phases.train.peak_bytes, phases.train, phases; peak_bytes.
    for depth in range(len(key), 0, -1):
        if reason := reasons.get(".".join(key[:depth])) or reasons.get(key[depth - 1]):
            return sanitise_line(reason)
    return "the measurement does not have it"


def _trained(cell: Cell) -> CostValue:
    count = count_trained_parameters(cell)
    if count is not None:
        return CostValue(count, format_parameters(count))
    if cell.model == NO_MODEL:
        return CostValue(None, "trains no model")
    return CostValue(None, "not known yet")


def _conditions(cell: Cell) -> str:
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
    said = [form.format(measured[key]) for key, form in forms.items() if measured.get(key)]
    return sanitise_line(", ".join(said))
