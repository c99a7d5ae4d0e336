"""Score and memory against model size, where a task has several models.

Records do not store the size of a model. Where full fine-tuning ran, it is what that trained: all
parameters, head included. Elsewhere it is computed from a cost run in fp32: the bytes of weights
and buffers, four to a number, minus what the method added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paretune.analysis.cell import NO_MODEL
from paretune.analysis.pareto.costs import count_trained_parameters
from paretune.methods import full
from paretune.reporting.rows import Grid, Row
from paretune.reporting.text.formatting import (
    format_interval,
    format_n_by_seeds,
    format_parameters,
    join_names,
)


@dataclass(frozen=True)
class ParameterCount:
    """Number of parameters of a model, and how it is known."""

    value: float
    source: str


@dataclass(frozen=True)
class ModelSizes:
    """Methods over the sizes of their models.

    ``methods`` are titles with their rows, smallest model first; ``parameters`` are by model key;
    ``comparison`` names the models in sentences.
    """

    methods: tuple[tuple[str, tuple[Row, ...]], ...]
    parameters: Mapping[str, ParameterCount]
    comparison: str
    table: Grid

    def size_of(self, row: Row) -> float:
        """Number of parameters of the row's model."""
        return self.parameters[row.cell.model].value


def build_model_sizes(rows: Sequence[Row]) -> ModelSizes | None:
    """Compare the models of one task; None unless a method has scores on two of known size."""
    scored = [r for r in rows if r.cell.model != NO_MODEL and r.interval is not None]
    parameters = count_model_parameters(scored)
    by_method: dict[str, list[Row]] = {}
    for row in scored:
        if row.cell.model in parameters:
            by_method.setdefault(row.method, []).append(row)
    if not any(len(of_method) > 1 for of_method in by_method.values()):
        return None
    methods = tuple(
        (name, tuple(sorted(of_method, key=lambda r: parameters[r.cell.model].value)))
        for name, of_method in by_method.items()
    )
    compared = [row for _, of_method in methods for row in of_method]
    unknown = sorted({row.model for row in scored if row.cell.model not in parameters})
    return ModelSizes(
        methods=methods,
        parameters=parameters,
        comparison=" ".join(_describe_models(compared, parameters, unknown)),
        table=_build_table(compared, parameters),
    )


def count_model_parameters(rows: Sequence[Row]) -> dict[str, ParameterCount]:
    """The size of each model that can be known, by model key."""
    counts: dict[str, ParameterCount] = {}
    for row in rows:
        count = count_trained_parameters(row.cell) if row.cell.name == full.NAME else None
        if count is not None:
            source = "trained by full fine-tuning, head included"
            counts[row.cell.model] = ParameterCount(count, source)
    for row in rows:
        if row.cell.model not in counts and (count := _count_from_bytes(row)) is not None:
            source = "counted from the bytes of weights and buffers"
            counts[row.cell.model] = ParameterCount(count, source)
    return counts


def _count_from_bytes(row: Row) -> float | None:
    added = [r.result.get("method_parameters") for r in row.cell.final]
    if not added or added[0] is None:
        return None
    for record in row.cell.cost:
        weights_bytes = record.measured.get("components", {}).get("weights_bytes")
        if weights_bytes is not None and record.measured.get("precision") == "fp32":
            return weights_bytes / 4 - float(added[0])
    return None


def _describe_models(
    rows: Sequence[Row], parameters: Mapping[str, ParameterCount], unknown: Sequence[str]
) -> Iterable[str]:
    models = {row.model: parameters[row.cell.model] for row in rows}
    order = sorted(models, key=lambda name: models[name].value)
    sizes = [f"{name} ({format_parameters(models[name].value)} parameters)" for name in order]
    yield f"Compared: {join_names(sizes)}."
    yield "Whatever else differs between these models (family, data, tokenizer) is in it too."
    for source in dict.fromkeys(count.source for count in models.values()):
        names = [name for name in order if models[name].source == source]
        of_some = "" if len(names) == len(order) else f" of {join_names(names)}"
        yield f"Parameters{of_some}: {source}."
    if unknown:
        yield f"Not shown, since no record says how large they are: {join_names(unknown)}."


def _build_table(rows: Sequence[Row], parameters: Mapping[str, ParameterCount]) -> Grid:
    return Grid(
        title="Model size, score and memory",
        above="",
        titles=("parameters", "score [95 %]", "n × seeds", "peak memory in training"),
        rows=tuple(
            (
                row,
                (
                    format_parameters(parameters[row.cell.model].value),
                    format_interval(score),
                    format_n_by_seeds(score, "×"),
                    row.cost.memory.text,
                ),
            )
            for row in rows
            if (score := row.interval)
        ),
        notes=(),
    )
