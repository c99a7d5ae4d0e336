"""What the dropouts of one pass draw from: a seed for each run, and the dropout's own offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from paretune.models.dropout.op import RowParts, ShapeParts, drop_padded, drop_rows
from paretune.models.kernels import policy

OFFSETS_PER_LAYER = 64
"""Dropouts that one layer may have; layer ``i`` counts from ``OFFSETS_PER_LAYER * (i + 1)``."""
TOKEN_AXES = {3: (1,), 4: (2, 3)}
"""By the number of a tensor's axes, those along which its tokens lie.

(rows, tokens, width), and of an attention (rows, heads, queries, keys); with virtual tokens in
front they are longer than the text. All other tensors have one row for each text.
"""


@dataclass
class DropoutRng:
    """Draws every dropout of a pass: the mask is a pure function of seed, layer and offset.

    Attributes:
        seeds: of the present pass, one for each run.
        row_splits: the ways in which rows may be split among several runs (tokens, sequences), as
            rows of each run; a run alone owns every row.
        offset: of the last dropout. It counts from the start of the pass, and anew in each layer.
        run_lengths: where runs share a padded batch, how long the batch of each would be alone,
            0 for a run without rows; empty where nobody's rows are padded for others.
        used_kernels: whether a compiled kernel (:mod:`paretune.models.kernels`) has been used.
    """

    seeds: list[int] = field(default_factory=lambda: [0])
    row_splits: list[list[int]] = field(default_factory=list)
    offset: int = 0
    run_lengths: list[int] = field(default_factory=list)
    used_kernels: bool = False

    def begin_pass(self, seeds: Sequence[int], row_splits: Sequence[Sequence[int]]) -> None:
        """Start a forward pass: offsets are counted from 0."""
        self.seeds, self.row_splits = list(seeds), [list(split) for split in row_splits]
        self.offset = 0

    def next_offset(self) -> int:
        """The offset of the next dropout."""
        self.offset += 1
        return self.offset

    def drop(self, x: Tensor, p: float) -> Tensor:
        """Dropout of (rows, ...) with probability ``p``; runs own consecutive rows."""
        if p <= 0:
            return x
        if self.run_lengths:
            return drop_padded(x, self.shape_parts(x.shape), self.next_offset(), p)
        self.used_kernels |= policy.can_use_kernels(x)
        return drop_rows(x, self.row_parts(len(x)), self.next_offset(), p)

    def drop_per_run(self, x: Tensor, runs: Sequence[int], p: float) -> Tensor:
        """The same of a tensor with one row for each of these runs; (runs, ...)."""
        if p <= 0:
            return x
        shape = (1, *x.shape[1:])
        return drop_padded(x, [(self.seeds[run], shape) for run in runs], self.next_offset(), p)

    @contextmanager
    def single_run(self, run: int) -> Iterator[None]:
        """Draw for this run alone while the block runs, from the present offset on."""
        before = self.seeds, self.row_splits, self.run_lengths
        self.seeds, self.row_splits, self.run_lengths = [self.seeds[run]], [], [0]
        try:
            yield
        finally:
            self.seeds, self.row_splits, self.run_lengths = before

    def row_parts(self, rows: int) -> RowParts:
        """Seed and rows of each run in a tensor of so many rows.

        Raises:
            ValueError: the rows are not split among the runs in a known way.
        """
        if len(self.seeds) == 1:
            return [(self.seeds[0], rows)]
        for split in self.row_splits:
            if sum(split) == rows:
                return list(zip(self.seeds, split, strict=True))
        raise ValueError(f"{rows} rows are not those of the runs: {self.row_splits}")

    def shape_parts(self, shape: Sequence[int]) -> ShapeParts:
        """Seed of each run with rows in a padded tensor, and the shape that they have alone.

        Raises:
            ValueError: the tensor has fewer tokens than the texts, so where they lie is not known.
        """
        longest = max(self.run_lengths, default=0)
        axes = TOKEN_AXES.get(len(shape), ())
        if any(shape[axis] < longest for axis in axes):
            raise ValueError(f"{tuple(shape)} holds no texts of {longest} tokens")
        parts = []
        for (seed, rows), length in zip(self.row_parts(shape[0]), self.run_lengths, strict=True):
            padding = longest - length
            sizes = [size - padding if axis in axes else size for axis, size in enumerate(shape)]
            if rows:
                parts.append((seed, (rows, *sizes[1:])))
        return parts
