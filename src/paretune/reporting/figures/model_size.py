"""Quality and memory against model size, where a task has several models: a panel for each method.

Records do not say how large a model is. Where full fine-tuning ran, it is what that trained: all
parameters, head included. Elsewhere it is counted from a cost run in fp32: the bytes of weights and
buffers, four to a number, less what the method added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paretune.analysis.cells import NO_MODEL
from paretune.analysis.pareto.costs import count_trained_parameters, value_at
from paretune.analysis.statistics.score_interval import Interval
from paretune.reporting.build import Row, TaskReport
from paretune.reporting.figures.bars import byte_ticks
from paretune.reporting.figures.pareto import round_ticks
from paretune.reporting.tables.translation import Grid
from paretune.reporting.text.formatting import (
    format_basis,
    format_interval,
    format_parameters,
    format_units,
    join_names,
)

WIDTH, LEFT, RIGHT = 230.0, 52.0, 222.0
TOP, MIDDLE, LOWER, BOTTOM, HEIGHT = 6.0, 106.0, 128.0, 198.0, 222.0
"""In a panel scores lie between ``TOP`` and ``MIDDLE``, memory between ``LOWER`` and ``BOTTOM``."""


@dataclass(frozen=True)
class SizePoint:
    """One model in a panel: a point, and the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SizePanel:
    """One method over the sizes of its models."""

    title: str
    description: str
    scores: tuple[SizePoint, ...]
    memory: tuple[SizePoint, ...]


@dataclass(frozen=True)
class ModelSizes:
    """``others`` are the lines of all methods, faint behind each panel; ticks are places and texts.

    ``left_out`` names models whose size is not known.
    """

    id: str
    title: str
    compared: str
    panels: tuple[SizePanel, ...]
    x_ticks: tuple[tuple[float, str], ...]
    score_ticks: tuple[tuple[float, str], ...]
    memory_ticks: tuple[tuple[float, str], ...]
    table: Grid

    @property
    def others(self) -> tuple[str, ...]:
        """Each method's lines as SVG point lists."""
        lines = [spots for panel in self.panels for spots in (panel.scores, panel.memory)]
        return tuple(svg_points(line) for line in lines if len(line) > 1)


def svg_points(line: Sequence[SizePoint]) -> str:
    """A line as SVG has it."""
    return " ".join(f"{spot.x:.1f},{spot.y:.1f}" for spot in line)


def build_model_sizes(task: TaskReport, index: int) -> ModelSizes | None:
    """The figure and its table; None unless a method has scores on two models of known size.

    Args:
        task: a task of the report.
        index: its place, for the figure's id.
    """
    there = [r for r in task.all_rows if r.cell.model != NO_MODEL and r.cell.interval is not None]
    known = count_model_parameters(there)
    methods: dict[str, list[Row]] = {}
    for row in there:
        if row.cell.model in known:
            methods.setdefault(row.method, []).append(row)
    shown = {n: sorted(rows, key=lambda r: known[r.cell.model][0]) for n, rows in methods.items()}
    if not any(len(rows) > 1 for rows in shown.values()):
        return None
    unknown = sorted({row.model for row in there if row.cell.model not in known})
    return _figure(task, index, shown, known, unknown)


def count_model_parameters(rows: Sequence[Row]) -> dict[str, tuple[float, str]]:
    """Of each model (its key) that can be counted: how many parameters, and from what."""
    found: dict[str, tuple[float, str]] = {}
    for row in rows:
        count = count_trained_parameters(row.cell) if row.cell.name == "full" else None
        if count is not None:
            found[row.cell.model] = count, "trained by full fine-tuning, head included"
    for row in rows:
        if row.cell.model not in found and (counted := _from_bytes(row)) is not None:
            found[row.cell.model] = counted, "counted from the bytes of weights and buffers"
    return found


def _from_bytes(row: Row) -> float | None:
    added = [r.result.get("method_parameters") for r in row.cell.final]
    for record in row.cell.cost:
        held = value_at(record.measured, ("components", "weights_bytes"))
        if (
            held is not None
            and record.measured.get("precision") == "fp32"
            and added
            and added[0] is not None
        ):
            return held / 4 - float(added[0])
    return None


def _figure(
    task: TaskReport,
    index: int,
    methods: dict[str, list[Row]],
    known: dict[str, tuple[float, str]],
    unknown: Sequence[str],
) -> ModelSizes:
    every = [row for rows in methods.values() for row in rows]
    counts = {row.model: known[row.cell.model][0] for row in every}
    x = _scale([math.log10(c) for c in counts.values()], LEFT + 12, RIGHT - 12)
    found = [row.cell.interval for row in every if row.cell.interval]
    scores = round_ticks(min(i.low for i in found), max(i.high for i in found), task.highest)
    y = _scale([scores[0][0], scores[-1][0]], MIDDLE, TOP)
    highest = max((_high(row) for row in every), default=0.0)
    ticks = byte_ticks(highest) if highest else []
    memory = _scale([0.0, ticks[-1][0]], BOTTOM, LOWER) if ticks else None

    def place(row: Row) -> float:
        return x(math.log10(known[row.cell.model][0]))

    def panel(name: str, rows: Sequence[Row]) -> SizePanel:
        return SizePanel(
            title=name,
            description=f"{name}: " + "; ".join(_said(row, known) for row in rows) + ".",
            scores=tuple(_spot(place(r), r.cell.interval, y) for r in rows if r.cell.interval),
            memory=tuple(
                _weight(place(r), r, memory) for r in rows if r.cost.memory.value is not None
            )
            if memory
            else (),
        )

    ends = sorted(counts.values())
    return ModelSizes(
        id=f"size-{index}",
        title=f"Score and peak memory against model size on {task.key}",
        compared=" ".join(_compared(every, known, unknown)),
        panels=tuple(panel(name, rows) for name, rows in methods.items()),
        x_ticks=tuple(
            (x(math.log10(c)), format_parameters(c)) for c in dict.fromkeys((ends[0], ends[-1]))
        ),
        score_ticks=tuple((y(value), text) for value, text in scores),
        memory_ticks=tuple((memory(v), t) for v, t in (ticks[0], ticks[-1])) if memory else (),
        table=_table(methods, known),
    )


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _high(row: Row) -> float:
    found = row.cost.memory
    return max(found.value or 0.0, found.high or 0.0)


def _spot(x: float, found: Interval, y: Callable[[float], float]) -> SizePoint:
    return SizePoint(x, y(found.estimate), y(found.low), y(found.high))


def _weight(x: float, row: Row, y: Callable[[float], float]) -> SizePoint:
    found = row.cost.memory
    low, high = (None if end is None else y(end) for end in (found.low, found.high))
    return SizePoint(x, y(found.value or 0.0), low, high)


def _said(row: Row, known: dict[str, tuple[float, str]]) -> str:
    found = row.cell.interval
    score = f"{format_interval(found)} ({format_basis(found)})" if found else "no score"
    count = format_parameters(known[row.cell.model][0])
    return f"{row.model}, {count} parameters: {score}, {row.cost.memory.text}"


def _compared(
    rows: Sequence[Row], known: dict[str, tuple[float, str]], unknown: Sequence[str]
) -> Iterable[str]:
    models = {row.model: known[row.cell.model] for row in rows}
    order = sorted(models, key=lambda name: models[name][0])
    said = [f"{name} ({format_parameters(models[name][0])} parameters)" for name in order]
    yield f"Compared: {join_names(said)}."
    yield "Whatever else differs between these models (family, data, tokenizer) is in it too."
    for how in dict.fromkeys(how for _, how in models.values()):
        of = [name for name in order if models[name][1] == how]
        yield f"Parameters{'' if len(of) == len(order) else f' of {join_names(of)}'}: {how}."
    if unknown:
        yield f"Not shown, since no record says how large they are: {join_names(unknown)}."


def _table(methods: dict[str, list[Row]], known: dict[str, tuple[float, str]]) -> Grid:
    rows = [row for of_method in methods.values() for row in of_method]
    return Grid(
        title="Model size, score and memory",
        above="",
        titles=("parameters", "score [95 %]", "n × seeds", "peak memory in training"),
        rows=tuple(
            (
                row,
                (
                    format_parameters(known[row.cell.model][0]),
                    format_interval(found),
                    f"{format_units(found)} × {found.n_seeds}",
                    row.cost.memory.text,
                ),
            )
            for row in rows
            if (found := row.cell.interval)
        ),
        notes=(),
    )
