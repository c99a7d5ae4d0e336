"""Dropout of several runs in one padded batch: each draws what it draws alone.

Alone, the batch of a run is as long as its own longest text; beside others it is padded to the
longest of all. What falls away is drawn for each run in the shape that its tensors have alone, and
laid into the front corner of its rows, where texts begin. What was padded beyond that falls away
whole: it is behind the end of every text of the run, and nobody reads it.

Tensors of three axes have tokens along the second (rows, tokens, width), those of four, which are
an attention's, along the last two (rows, heads, queries, keys); with a prompt or a prefix in front
they are longer than the text. All others have one row for each text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from paretune.models.dropout.patch import patch_functional_dropout
from paretune.models.dropout.rng import DropoutRng, apply_mask, draw_mask, keep_scale

TOKEN_AXES = {3: (1,), 4: (2, 3)}
"""By how many axes a tensor has, those along which its tokens lie."""


@dataclass
class PaddedDropoutRng(DropoutRng):
    """Also knows how long each run's batch would be alone: ``lengths``, one for each run.

    A run without rows in this pass has length 0.
    """

    lengths: list[int] = field(default_factory=list)

    @property
    def padded_length(self) -> int:
        """To which all are padded."""
        return max(self.lengths, default=0)

    @contextmanager
    def single_run(self, run: int) -> Iterator[None]:
        """While it is open, all is drawn for this run, as alone, from the present place on."""
        before = self.seeds, self.row_splits, self.lengths
        self.seeds, self.row_splits, self.lengths = [self.seeds[run]], [], []
        try:
            yield
        finally:
            self.seeds, self.row_splits, self.lengths = before

    def run_shapes(self, shape: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """Seed of each run that has rows in a tensor of this shape, and the shape it has alone.

        Raises:
            ValueError: it has fewer tokens than the texts, so it is not known where they lie.
        """
        axes = TOKEN_AXES.get(len(shape), ())
        if any(shape[axis] < self.padded_length for axis in axes):
            raise ValueError(f"{tuple(shape)} holds no texts of {self.padded_length} tokens")
        found = []
        lengths = self.lengths or [0] * len(self.seeds)
        for (seed, rows), own in zip(self.split_rows(shape[0]), lengths, strict=True):
            short = self.padded_length - own
            each = (size - short if i in axes else size for i, size in enumerate(shape))
            if rows:
                found.append((seed, (rows, *list(each)[1:])))
        return found


def drop_padded(x: Tensor, chance: PaddedDropoutRng, p: float) -> Tensor:
    """Dropout of (rows, ...) with probability ``p``; runs own consecutive rows."""
    return _drop(x, chance.run_shapes(x.shape), chance, p) if p > 0 else x


def drop_per_run(x: Tensor, present: Sequence[int], chance: PaddedDropoutRng, p: float) -> Tensor:
    """The same of one table for each of the runs ``present``; (runs present, ...)."""
    shape = (1, *x.shape[1:])
    return _drop(x, [(chance.seeds[run], shape) for run in present], chance, p) if p > 0 else x


def patch_padded_dropout(chance: PaddedDropoutRng) -> AbstractContextManager[None]:
    """While it is open, torch's dropout draws from ``chance``."""
    return patch_functional_dropout(lambda x, p: drop_padded(x, chance, p))


_Shapes = list[tuple[int, tuple[int, ...]]]


def _drop(x: Tensor, shapes: _Shapes, chance: PaddedDropoutRng, p: float) -> Tensor:
    found: Tensor = _Drop.apply(x, shapes, chance.next_offset(), p)  # type: ignore[no-untyped-call]
    return found


class _Drop(torch.autograd.Function):
    """Draws once more in the backward pass, as alone, so that no mask is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shapes: _Shapes, place: int, p: float) -> Tensor:
        ctx.run_shapes, ctx.place, ctx.p = shapes, place, p
        return _drop_runs(x, shapes, place, p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _drop_runs(gradient, ctx.run_shapes, ctx.place, ctx.p), None, None, None


def _drop_runs(x: Tensor, shapes: _Shapes, place: int, p: float) -> Tensor:
    drawn = [
        draw_mask(seed, (place,), math.prod(own), p, x.device).view(own) for seed, own in shapes
    ]
    if all(own[1:] == x.shape[1:] for _, own in shapes):
        keep = torch.cat(drawn)
    else:
        keep = torch.zeros(x.shape, dtype=drawn[0].dtype, device=x.device)
        at = 0
        for own in drawn:
            rows = slice(at, at + len(own))
            keep[(rows, *(slice(size) for size in own.shape[1:]))] = own
            at += len(own)
    return apply_mask(x, keep).mul_(keep_scale(p))
