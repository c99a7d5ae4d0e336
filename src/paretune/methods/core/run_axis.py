"""The run axis: several runs share one pass through a frozen backbone.

Every trained tensor of a method has a leading axis, the runs of the fleet; alone, it has length 1.
The backbone sees the sequences of all runs as one batch, and ``Fleet.rows`` says which rows of that
batch belong to which run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.models.dropout.patch import seeded_dropout
from paretune.models.dropout.rng import DropoutRng
from paretune.models.packing.state import Packing


@dataclass
class Fleet:
    """Which rows of the present batch belong to which run.

    ``row_partitions`` are the ways in which rows may be shared, each with consecutive slices, one
    for each
    run, set before every forward pass; unset, a fleet of one owns all rows. A padded batch is
    shared in sequences (for multiple choice: examples x choices) and, where a tensor has one row
    for each run, in runs (:mod:`paretune.methods.core.relative_positions`); a packed one in tokens,
    of a translation in tokens of targets too, and in sequences where a tensor has a row for each.
    ``step_seed`` is what a method draws from that decides by chance once in a training step.
    ``packing`` is there where batches are packed, ``dropout_rng`` where dropout is drawn by it and
    not by torch. A fleet may be a part of its ``parent``, from the run
    ``first_run`` on.
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
        """Those of the runs that train one method: a fleet of its own, within this one."""
        self.subfleets.append(Fleet(runs, parent=self, first_run=first_run))
        return self.subfleets[-1]

    def apply_to_own_rows(self, change: Callable[..., Tensor], *given: Tensor) -> Tensor:
        """What ``change`` makes of the fleet's rows; the rows of others stay as they are.

        Args:
            change: called with this fleet's rows of each tensor, gives those of the last one anew.
            given: tensors with the rows of all runs.
        """
        if self.parent is None:
            return change(*given)
        before, _, after = self._split(given[-1])
        own = [self._split(x)[1] for x in given]
        return torch.cat([before, change(*own), after]) if len(own[-1]) else given[-1]

    def own_rows(self, x: Tensor) -> Tensor:
        """The fleet's rows of a tensor with the rows of all runs."""
        return x if self.parent is None else self._split(x)[1]

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Rows of the runs before this fleet's, its own, and those behind."""
        assert self.parent is not None  # noqa: S101  (asked of a part)
        way = self.parent.rows(len(x))
        start, stop = way[self.first_run].start, way[self.first_run + self.runs - 1].stop
        return torch.split(x, [start, stop - start, len(x) - stop])

    def set_row_counts(self, *ways: list[int]) -> None:
        """Give the next ``way[r]`` rows to run ``r``, in order; a tensor is shared as it fits."""
        self.row_partitions = []
        for way in ways:
            if len(way) != self.runs:
                raise ValueError(f"{len(way)} shares for a fleet of {self.runs} runs")
            starts = [sum(way[:r]) for r in range(self.runs)]
            self.row_partitions.append([slice(s, s + n) for s, n in zip(starts, way, strict=True)])
        for subfleet in self.subfleets:
            subfleet.set_row_counts(
                *(way[subfleet.first_run : subfleet.first_run + subfleet.runs] for way in ways)
            )

    @contextmanager
    def single_run(self, run: int) -> Iterator[None]:
        """While it is open, what comes as a single row is this run's, and so is what is drawn."""
        before = [[own.stop - own.start for own in way] for way in self.row_partitions]
        self.set_row_counts([int(r == run) for r in range(self.runs)])
        rng = self.dropout_rng
        try:
            with nullcontext() if rng is None else rng.single_run(run):
                yield
        finally:
            self.set_row_counts(*before)

    def active_runs(self) -> list[int]:
        """The runs that have rows in this pass."""
        return [run for run, own in enumerate(self.row_partitions[0]) if own.stop > own.start]

    def rows(self, rows: int) -> list[slice]:
        """Which of so many rows belong to each run.

        Raises:
            ValueError: there are other rows, as where a table of the model's own goes through the
                projections of the text, and is not there once for each run.
        """
        for way in self.row_partitions:
            if way[-1].stop == rows:
                return way
        held = " or ".join(str(way[-1].stop) for way in self.row_partitions)
        raise ValueError(f"{rows} rows, but those of the runs are {held}")

    def stop_packing(self) -> None:
        """Read padded batches, with torch's own dropout, from now on."""
        self.packing = self.dropout_rng = None

    def seed_dropout(self, seeds: list[int]) -> None:
        """What dropout draws from in the next pass: one seed for each run."""
        rng = self.dropout_rng if self.packing is None else self.packing.dropout_rng
        if rng is not None:
            rng.begin_pass(seeds, [])
        torch.manual_seed(seeds[0])  # what else a model or a tuner of peft draws

    @property
    def used_kernels(self) -> bool:
        """Whether a pass was compiled (paretune.models.kernels.policy) since batches are packed."""
        rng = self.dropout_rng if self.packing is None else self.packing.dropout_rng
        return rng is not None and rng.used_kernels

    def dropout_context(self) -> AbstractContextManager[Any]:
        """The context for a forward and backward pass in training."""
        return nullcontext() if self.dropout_rng is None else seeded_dropout(self.dropout_rng)

    def map_runs(self, x: Tensor, run: Callable[[int, Tensor], Tensor]) -> Tensor:
        """``run(r, rows of x)`` for every run, put together again along the rows."""
        if self.runs == 1:
            return run(0, x)
        # Split, not sliced: the gradient of a slice would be as large as all rows. And a run may
        # have no rows in this pass.
        pieces = torch.split(x, _row_counts(self.rows(len(x))))
        found = [run(r, own) for r, own in enumerate(pieces) if len(own)]
        return found[0] if len(found) == 1 else torch.cat(found)  # of one it would be a copy


def _row_counts(rows: list[slice]) -> list[int]:
    return [own.stop - own.start for own in rows]


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
    """(runs, ...) -> (rows, ...), each so many times.

    ``repeat_interleave`` would do, but its gradient adds hundreds of rows into one by atomic
    operations on a GPU, in no fixed order, and its counts have to come back from there.
    """
    each = zip(torch.split(values, 1), counts, strict=True)
    return torch.cat([one.expand(n, *values.shape[1:]) for one, n in each])


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
