"""Dropout, residual sum and layer normalisation as one operation of autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.dropout.masks import keep_scale, keep_threshold
from paretune.models.kernels import layer_norm
from paretune.models.kernels.dropout_rows import sfc64_state

_NOTHING = np.zeros(4, np.uint64)


def add_norm(
    hidden: Tensor,
    residual: Tensor,
    layer: nn.LayerNorm,
    parts: list[tuple[int, int]],
    offset: int,
    p: float,
) -> Tensor:
    """``layer(residual + dropout(hidden))``, all in fp32; (rows, ..., width) each.

    Args:
        layer: with weight and bias, over the last axis, whose width is a multiple of 4.
        parts: seed and rows of each run, in order.
        p: probability of dropout; at 0 nothing is drawn.
    """
    return _AddNorm.apply(  # type: ignore[no-untyped-call,no-any-return]
        hidden, residual, layer.weight, layer.bias, layer.eps, parts, offset, p
    )


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        parts: list[tuple[int, int]],
        offset: int,
        p: float,
    ) -> Tensor:
        rows = hidden.numel() // hidden.shape[-1]
        normed = torch.empty(rows, hidden.shape[-1])
        out, inverse = torch.empty_like(normed), torch.empty(rows)
        ctx.parts, ctx.offset, ctx.p = parts, offset, p
        hidden_rows, residual_rows = _flatten_rows(hidden), _flatten_rows(residual)
        for own, state in _each_run(parts, rows // max(1, len(hidden)), offset, p):
            layer_norm.forward(
                hidden_rows[own], residual_rows[own], weight.numpy(), bias.numpy(), np.float32(eps),
                p > 0, state, keep_threshold(p), np.float32(keep_scale(p) if p > 0 else 1),
                normed.numpy()[own], out.numpy()[own], inverse.numpy()[own],
            )  # fmt: skip
        ctx.save_for_backward(normed, inverse, weight)
        return out.view(hidden.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        normed, inverse, weight = ctx.saved_tensors
        p = ctx.p
        d_residual = torch.empty_like(normed)
        d_hidden = torch.empty_like(normed) if p > 0 else d_residual
        rows = _flatten_rows(gradient)
        for own, state in _each_run(ctx.parts, len(rows) // max(1, len(gradient)), ctx.offset, p):
            layer_norm.backward(
                rows[own], normed.numpy()[own], weight.detach().numpy(), inverse.numpy()[own],
                p > 0, state, keep_threshold(p), np.float32(keep_scale(p) if p > 0 else 1),
                d_residual.numpy()[own], d_hidden.numpy()[own],
            )  # fmt: skip
        flat = gradient.reshape(normed.shape)
        d_weight = (flat * normed).sum(0) if ctx.needs_input_grad[2] else None
        d_bias = flat.sum(0) if ctx.needs_input_grad[3] else None
        shape = gradient.shape
        return d_hidden.view(shape), d_residual.view(shape), d_weight, d_bias, *[None] * 4


def _flatten_rows(x: Tensor) -> Any:
    """(..., width) -> an array of (rows, width)."""
    return x.detach().contiguous().view(-1, x.shape[-1]).numpy()


def _each_run(parts: list[tuple[int, int]], times: int, offset: int, p: float) -> Any:
    """The rows of each run, ``times`` as many as ``parts`` says, and the state of its bits."""
    start = 0
    for seed, rows in parts:
        state = sfc64_state(seed, (offset,)) if p > 0 else _NOTHING
        yield slice(start * times, (start + rows) * times), state
        start += rows
