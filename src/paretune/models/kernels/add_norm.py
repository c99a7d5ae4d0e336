"""Autograd's node for dropout, residual sum and layer normalisation together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.dropout.rng import DropoutRng, keep_scale, keep_threshold
from paretune.models.kernels import layer_norm
from paretune.models.kernels.dropout_rows import sfc64_state

_NOTHING = np.zeros(4, np.uint64)


def add_norm(
    hidden: Tensor, residual: Tensor, layer: nn.LayerNorm, chance: DropoutRng, p: float
) -> Tensor:
    """``layer(residual + dropout(hidden))``, all in fp32; (rows, ..., width) each.

    Args:
        hidden: what dropout falls on.
        residual: of the same shape.
        layer: with weight and bias, over the last axis, whose width is a multiple of 4.
        chance: what dropout draws from.
        p: probability of dropout; at 0 nothing is drawn.
    """
    parts = [(0, len(hidden))]
    place = 0
    if p > 0:
        place, parts = chance.next_offset(), chance.split_rows(len(hidden))
    return _AddNorm.apply(  # type: ignore[no-untyped-call,no-any-return]
        hidden, residual, layer.weight, layer.bias, layer.eps, parts, place, p
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
        place: int,
        p: float,
    ) -> Tensor:
        rows = hidden.numel() // hidden.shape[-1]
        normed = torch.empty(rows, hidden.shape[-1])
        out, inverse = torch.empty_like(normed), torch.empty(rows)
        ctx.parts, ctx.place, ctx.p = parts, place, p
        given = [_flatten_rows(x) for x in (hidden, residual)]
        for own, state in _each_run(parts, rows // max(1, len(hidden)), place, p):
            layer_norm.forward(
                given[0][own], given[1][own], weight.numpy(), bias.numpy(), np.float32(eps),
                p > 0, state, keep_threshold(p), np.float32(keep_scale(p) if p > 0 else 1),
                normed.numpy()[own], out.numpy()[own], inverse.numpy()[own],
            )  # fmt: skip
        ctx.save_for_backward(normed, inverse, weight)
        return out.view(hidden.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        normed, inverse, weight = ctx.saved_tensors
        of_residual = torch.empty_like(normed)
        of_hidden = torch.empty_like(normed) if ctx.p > 0 else of_residual
        given = _flatten_rows(gradient)
        for own, state in _each_run(
            ctx.parts, len(normed) // max(1, len(gradient)), ctx.place, ctx.p
        ):
            layer_norm.backward(
                given[own], normed.numpy()[own], weight.detach().numpy(), inverse.numpy()[own],
                ctx.p > 0, state, keep_threshold(ctx.p), np.float32(keep_scale(ctx.p) if ctx.p > 0 else 1),
                of_residual.numpy()[own], of_hidden.numpy()[own],
            )  # fmt: skip
        flat = gradient.reshape(normed.shape)
        of_weight = (flat * normed).sum(0) if ctx.needs_input_grad[2] else None
        of_bias = flat.sum(0) if ctx.needs_input_grad[3] else None
        shaped = [x.view(gradient.shape) for x in (of_hidden, of_residual)]
        return *shaped, of_weight, of_bias, None, None, None, None


def _flatten_rows(x: Tensor) -> Any:
    """(..., width) -> an array of (rows, width)."""
    return x.detach().contiguous().view(-1, x.shape[-1]).numpy()


def _each_run(parts: list[tuple[int, int]], times: int, place: int, p: float) -> Any:
    """The rows of each run, ``times`` as many as it is said to own, and where its bits begin."""
    at = 0
    for seed, rows in parts:
        state = sfc64_state(seed, (place,)) if p > 0 else _NOTHING
        yield slice(at * times, (at + rows) * times), state
        at += rows
