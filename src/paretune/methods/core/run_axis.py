"""The run axis: several runs share one pass through a frozen backbone.

Every trained tensor of a method has a leading axis, the runs of the fleet; alone, it has length 1.
The backbone sees the sequences of all runs as one batch, and ``Fleet.rows`` says which rows of that
batch belong to which run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.models.changes import ModelChanges
from paretune.models.dropout import DropoutRng, seeded_dropout
from paretune.models.packing.layout import Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed


@dataclass
class Fleet:
    """Which rows of the current batch belong to which run.

    Attributes:
        runs: how many runs train together; 1 for a run alone.
        row_partitions: the ways in which rows are divided among the runs, set before each forward
            pass: consecutive slices, one per run. A padded batch is divided by sequences (multiple
            choice: examples x choices) and, for tensors with one row per run, by runs; a packed
            one by tokens, by target tokens and by sequences. Unset, a fleet of one owns all rows.
        step_seed: the seed of what a method draws once in a training step.
        dropout_rng: what dropout is drawn from; None for torch's own generator.
    """

    runs: int = 1
    row_partitions: list[list[slice]] = field(default_factory=list)
    step_seed: int = 0
    packing: Packing | None = None
    dropout_rng: DropoutRng | None = None
    parent: Fleet | None = None
    first_run: int = 0
    subfleets: list[Fleet] = field(default_factory=list)

    def make_subfleet(self, first_run: int, runs: int) -> Fleet:
        """The fleet of some consecutive runs, those of one method."""
        self.subfleets.append(Fleet(runs, parent=self, first_run=first_run))
        return self.subfleets[-1]

    def apply_to_own_rows(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """The last tensor, its rows of this fleet replaced by ``function`` of all tensors'."""
        if self.parent is None:
            return function(*tensors)
        before, _, after = self._split(tensors[-1])
        rows = [self._split(x)[1] for x in tensors]
        return torch.cat([before, function(*rows), after]) if len(rows[-1]) else tensors[-1]

    def own_rows(self, x: Tensor) -> Tensor:
        """The fleet's rows of a tensor with the rows of all runs."""
        return x if self.parent is None else self._split(x)[1]

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Rows of the runs before this fleet's, its own, and those behind."""
        assert self.parent is not None  # noqa: S101  (called for subfleets)
        rows = self.parent.rows(len(x))
        start, stop = rows[self.first_run].start, rows[self.first_run + self.runs - 1].stop
        return torch.split(x, [start, stop - start, len(x) - stop])

    def set_row_counts(self, *partitions: list[int]) -> None:
        """Divide the rows of the next pass: ``counts[r]`` consecutive rows for run ``r``.

        A tensor is divided by the partition that has as many rows as it.
        """
        self.row_partitions = []
        for counts in partitions:
            if len(counts) != self.runs:
                raise ValueError(f"{len(counts)} row counts for a fleet of {self.runs} runs")
            starts = [sum(counts[:r]) for r in range(self.runs)]
            rows = [slice(start, start + n) for start, n in zip(starts, counts, strict=True)]
            self.row_partitions.append(rows)
        for part in self.subfleets:
            runs_of_part = slice(part.first_run, part.first_run + part.runs)
            part.set_row_counts(*(counts[runs_of_part] for counts in partitions))

    @contextmanager
    def single_run(self, run: int) -> Iterator[None]:
        """While it is open, single rows and dropout masks are those of one run."""
        before = [_row_counts(rows) for rows in self.row_partitions]
        self.set_row_counts([int(r == run) for r in range(self.runs)])
        rng = self.dropout_rng
        try:
            with nullcontext() if rng is None else rng.single_run(run):
                yield
        finally:
            self.set_row_counts(*before)

    def active_runs(self) -> list[int]:
        """The runs that have rows in this pass."""
        return [run for run, rows in enumerate(self.row_partitions[0]) if rows.stop > rows.start]

    def rows(self, count: int) -> list[slice]:
        """The rows of each run in a tensor of ``count`` rows.

        ValueError where no partition has as many, as where a table of the model's own goes through
        the projections of the text and is not there once for each run.
        """
        for partition in self.row_partitions:
            if partition[-1].stop == count:
                return partition
        counts = " or ".join(str(partition[-1].stop) for partition in self.row_partitions)
        raise ValueError(f"{count} rows, but those of the runs are {counts}")

    def stop_packing(self) -> None:
        """From now on batches are padded, and dropout is torch's own."""
        self.packing = self.dropout_rng = None

    def seed_dropout(self, seeds: list[int]) -> None:
        """Seed the dropout of the next pass, one seed per run."""
        rng = self.dropout_rng if self.packing is None else self.packing.dropout_rng
        if rng is not None:
            rng.begin_pass(seeds, [])
        torch.manual_seed(seeds[0])  # what models and tuners of peft draw themselves

    def dropout_context(self) -> AbstractContextManager[Any]:
        """The context for a forward and backward pass in training."""
        return nullcontext() if self.dropout_rng is None else seeded_dropout(self.dropout_rng)

    def map_runs(self, x: Tensor, function: Callable[[int, Tensor], Tensor]) -> Tensor:
        """``function(run, rows of x)`` for every run, concatenated along the rows."""
        if self.runs == 1:
            return function(0, x)
        # Split, not sliced: the gradient of a slice would be as large as all rows. And a run may
        # have no rows in this pass.
        pieces = torch.split(x, _row_counts(self.rows(len(x))))
        outputs = [function(run, rows) for run, rows in enumerate(pieces) if len(rows)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # of one it would be a copy


def _row_counts(rows: list[slice]) -> list[int]:
    return [part.stop - part.start for part in rows]


def per_run_linear(x: Tensor, weight: Tensor, fleet: Fleet) -> Tensor:
    """Each run's rows times its own matrix.

    Shapes: ``x`` (rows, ..., in), ``weight`` (runs, out, in) -> (rows, ..., out).
    """
    if fleet.runs == 1:
        return F.linear(x, weight[0])
    if len({*_row_counts(fleet.rows(len(x)))}) == 1:  # one batched product serves all
        stacked = x.reshape(fleet.runs, -1, x.shape[-1])
        return torch.bmm(stacked, weight.transpose(1, 2)).reshape(*x.shape[:-1], weight.shape[1])
    weights = weight.unbind(0)
    return fleet.map_runs(x, lambda r, rows: F.linear(rows, weights[r]))


def per_run_vector(x: Tensor, vector: Tensor, fleet: Fleet) -> Tensor:
    """Each run's vector, in a shape that goes with that run's rows of ``x``.

    Shapes: ``x`` (rows, ..., width), ``vector`` (runs, width) -> (width,) or (rows, 1..., width).
    """
    if fleet.runs == 1:
        return vector[0]
    rows = _repeat_rows(vector, _row_counts(fleet.rows(len(x))))
    return rows.reshape(len(x), *[1] * (x.ndim - 2), -1)


def per_run_rows(values: Tensor, rows: int, fleet: Fleet) -> Tensor:
    """Each run's matrix once for each of its rows: (runs, n, width) -> (rows, n, width)."""
    if fleet.runs == 1:
        return values.expand(rows, -1, -1)
    return _repeat_rows(values, _row_counts(fleet.rows(rows)))


def _repeat_rows(values: Tensor, counts: list[int]) -> Tensor:
    """(runs, ...) -> (rows, ...), each run's slice ``counts[run]`` times.

    ``repeat_interleave`` would do, but its gradient adds hundreds of rows into one by atomic
    operations on a GPU, in no fixed order, and its counts have to come back from there.
    """
    pieces = zip(torch.split(values, 1), counts, strict=True)
    return torch.cat([piece.expand(n, *values.shape[1:]) for piece, n in pieces])


class PerRunModule(nn.Module):
    """A head module once for each run: row ranges go through their own copy.

    Heads are small, so a loop costs little and keeps their modules as they are.
    """

    def __init__(self, copies: list[nn.Module], fleet: Fleet) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self.fleet = fleet

    def forward(self, x: Tensor) -> Tensor:
        """(rows, ..., in) -> (rows, ..., out)."""
        return self.fleet.map_runs(x, lambda r, rows: self.copies[r](rows))


def make_generator(seed: int) -> torch.Generator:
    """A private generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def init_generators(seeds: Sequence[int], *purpose: str) -> list[torch.Generator]:
    """A generator for each run, for the tensors of one place (``purpose``).

    So each run's slice of a tensor is drawn from that run's seed alone.
    """
    return [make_generator(derive_seed(seed, "init", *purpose)) for seed in seeds]


def draw_uniform(
    shape: Sequence[int], fan_in: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """(runs, *shape), uniform on +-1/sqrt(fan_in)."""
    values = torch.empty(len(generators), *shape)
    bound = 1 / math.sqrt(fan_in)
    for run, generator in enumerate(generators):
        values[run].uniform_(-bound, bound, generator=generator)
    return values


def draw_normal(shape: Sequence[int], std: float, generators: Sequence[torch.Generator]) -> Tensor:
    """(runs, *shape), normal with mean 0."""
    values = torch.empty(len(generators), *shape)
    for run, generator in enumerate(generators):
        values[run].normal_(0, std, generator=generator)
    return values


def split_position_tables(
    changes: ModelChanges, model: Any, anatomy: Anatomy, fleet: Fleet
) -> None:
    """Give every run of the fleet its own table, where the model has one."""
    names = [layer.self_attention.module for layer in anatomy.layers]
    attentions: list[Any] = [model.get_submodule(name) for name in names]
    if fleet.runs == 1 or not getattr(attentions[0], "relative_attention", False):
        return
    encoder: Any = model.get_submodule(anatomy.layers[0].name.rpartition(".layer.")[0])

    def tables() -> Tensor:
        """(runs present, distances, width)."""
        table: Tensor = encoder.rel_embeddings.weight.expand(len(fleet.active_runs()), -1, -1)
        return encoder.LayerNorm(table) if "layer_norm" in encoder.norm_rel_ebd else table

    changes.set(encoder, "get_rel_embedding", tables)
    for attention in attentions:
        p = attention.pos_dropout.p
        if fleet.dropout_rng is not None:
            changes.set(attention.pos_dropout, "p", 0.0)  # drawn for each run, with its biases
        plain = attention.disentangled_attention_bias
        biases = partial(_attention_biases, attention, plain, p, fleet)
        changes.set(attention, "disentangled_attention_bias", biases)


def _attention_biases(
    attention: Any,
    plain: Callable[..., Tensor],
    p: float,
    fleet: Fleet,
    query: Tensor,
    key: Tensor,
    *inputs: Any,
) -> Tensor:
    """Biases of the scores, (rows * heads, tokens, tokens), of each run by its own table.

    ``inputs``: as the model gives them: distances, tables, number of terms.
    """
    distances, tables, terms = inputs
    active, rng = fleet.active_runs(), fleet.dropout_rng
    if rng is not None and attention.training:
        tables = rng.drop_per_run(tables, active, p)
    rows = [part.stop - part.start for part in fleet.row_partitions[0]]
    counts = [attention.num_attention_heads * rows[run] for run in active]
    texts = torch.split(query, counts), torch.split(key, counts)
    offset, biases = 0 if rng is None else rng.offset, []
    for run, own_query, own_key, table in zip(active, *texts, tables, strict=True):
        if rng is not None:
            rng.offset = offset  # no run's dropouts count for another
        with fleet.single_run(run):
            biases.append(plain(own_query, own_key, distances, table, terms))
    return torch.cat(biases)
