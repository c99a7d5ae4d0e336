"""Dropout operations of autograd that draw their mask once more in the backward pass.

``parts`` says which part of a tensor belongs to which run: seed and rows, or seed and shape.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from paretune.models.dropout.masks import apply_mask, draw_mask, keep_scale
from paretune.models.kernels import policy

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
    if policy.can_use_kernels(x):
        from paretune.models.kernels.dropout_rows import drop_rows as drop_by_kernel

        return drop_by_kernel(x, parts, offset, p)
    per_row = x[0].numel() if len(x) else 0
    masks = [draw_mask(seed, (offset,), rows * per_row, p, x.device) for seed, rows in parts]
    mask = masks[0] if len(masks) == 1 else torch.cat(masks)
    return apply_mask(x, mask).mul_(keep_scale(p))


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
    return apply_mask(x, keep).mul_(keep_scale(p))
