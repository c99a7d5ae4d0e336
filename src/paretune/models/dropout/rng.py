"""Dropout drawn from the seeds of the runs: a seed for each run, and the dropout's own offset.

:class:`DropoutRng` says what a pass draws from, :func:`seeded_dropout` puts it in the place of
torch's own dropout. The mask is drawn once more in the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from paretune.models.dropout.masks import draw_mask, drop_by_mask

RowParts = list[tuple[int, int]]
"""Seed and number of rows of each run, in order."""
ShapeParts = list[tuple[int, tuple[int, ...]]]
"""Seed of each run, and the shape that its part of a tensor has without others' padding."""


def drop_rows(x: Tensor, parts: RowParts, offset: int, p: float) -> Tensor:
    """Dropout of (rows, ...), of which the runs have consecutive rows."""
    return _DropRows.apply(x, parts, offset, p)  # type: ignore[no-untyped-call,no-any-return]


def drop_padded(x: Tensor, parts: ShapeParts, offset: int, p: float) -> Tensor:
    """Dropout of (rows, ...), where each run draws in the shape that it has alone.

    Its mask is laid into the front corner of its rows, where texts begin. What was padded beyond it
    falls away whole: it is behind the end of every text of the run, and nobody reads it.
    """
    return _DropPadded.apply(x, parts, offset, p)  # type: ignore[no-untyped-call,no-any-return]


class _DropRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: RowParts, offset: int, p: float) -> Tensor:
        ctx.draw = parts, offset, p
        return _drop_rows(x, *ctx.draw)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _drop_rows(gradient, *ctx.draw), None, None, None


class _DropPadded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: ShapeParts, offset: int, p: float) -> Tensor:
        ctx.draw = parts, offset, p
        return _drop_padded(x, *ctx.draw)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _drop_padded(gradient, *ctx.draw), None, None, None


def _drop_rows(x: Tensor, parts: RowParts, offset: int, p: float) -> Tensor:
    per_row = x[0].numel() if len(x) else 0
    masks = [draw_mask(seed, (offset,), rows * per_row, p, x.device) for seed, rows in parts]
    mask = masks[0] if len(masks) == 1 else torch.cat(masks)
    return drop_by_mask(x, mask, p)


def _drop_padded(x: Tensor, parts: ShapeParts, offset: int, p: float) -> Tensor:
    masks = [
        draw_mask(seed, (offset,), math.prod(shape), p, x.device).view(shape)
        for seed, shape in parts
    ]
    if all(shape[1:] == x.shape[1:] for _, shape in parts):
        keep = torch.cat(masks)
    else:
        keep = torch.zeros(x.shape, dtype=masks[0].dtype, device=x.device)
        start = 0
        for mask in masks:
            rows = slice(start, start + len(mask))
            keep[(rows, *(slice(size) for size in mask.shape[1:]))] = mask
            start += len(mask)
    return drop_by_mask(x, keep, p)


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
        row_splits: the ways in which rows may be split among several runs (tokens, sequences), as
            rows of each run; a run alone owns every row.
        offset: of the last dropout. It counts from the start of the pass, and anew in each layer.
        run_lengths: where runs share a padded batch, how long the batch of each would be alone,
            0 for a run without rows; empty where nobody's rows are padded for others.
    """

    seeds: list[int] = field(default_factory=lambda: [0])
    row_splits: list[list[int]] = field(default_factory=list)
    offset: int = 0
    run_lengths: list[int] = field(default_factory=list)

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
        """Seed and rows of each run in so many rows; ValueError if they are not known."""
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


@contextmanager
def seeded_dropout(rng: DropoutRng) -> Iterator[None]:
    """Draw every dropout of a forward and backward pass from ``rng``, one pass at a time.

    Marian, T5 and others call ``torch.nn.functional.dropout`` themselves, with no module to hook,
    and ``nn.Dropout`` calls it too. (A torch function mode would see every function of torch, and
    is off in what a backward pass computes again.)
    """
    before = F.dropout

    def dropout(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        # Never in place, which is only a way to save memory.
        return rng.drop(input, p) if training else input

    F.dropout = dropout
    try:
        yield
    finally:
        F.dropout = before
