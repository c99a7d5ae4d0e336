"""Dropout, residual sum and layer normalisation as one operation of autograd.

Source: Ba et al. 2016, arXiv:1607.06450, equation 4: y = w * (x - mean) / sqrt(variance + eps) + b,
here of x = residual + dropout(hidden). The backward kernel reads the normalised x.
Shapes of the kernels: (rows, width), width a multiple of 4; weight and bias (width,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.dropout.masks import keep_scale, keep_threshold
from paretune.models.kernels.dropout_rows import draw_words, sfc64_state
from paretune.models.kernels.jit import SUMMED, jit_helper, jit_kernel

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
            _forward_rows(
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
            _backward_rows(
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


_ZERO = np.float32(0)


@jit_helper(SUMMED)
def _add_row(
    hidden: Any, residual: Any, bits: Any, threshold: Any, factor: Any, out: Any, width: Any
) -> Any:
    total = _ZERO
    for j in range(width):
        value = hidden[j] * (factor if bits[j] < threshold else _ZERO) + residual[j]
        out[j] = value
        total += value
    return total


@jit_helper(SUMMED)
def _sum_squares(x: Any, mean: Any, width: Any) -> Any:
    total = _ZERO
    for j in range(width):
        total += (x[j] - mean) * (x[j] - mean)
    return total


@jit_helper()
def _normalise_row(
    x: Any, mean: Any, factor: Any, weight: Any, bias: Any, out: Any, width: Any
) -> None:
    for j in range(width):
        x[j] = (x[j] - mean) * factor
        out[j] = x[j] * weight[j] + bias[j]


@jit_kernel(
    "void(float32[:, ::1], float32[:, ::1], float32[::1], float32[::1], float32, boolean,"
    " uint64[::1], int64, float32, float32[:, ::1], float32[:, ::1], float32[::1])"
)
def _forward_rows(
    hidden: Any,
    residual: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    dropping: Any,
    state: Any,
    threshold: Any,
    factor: Any,
    normed: Any,
    out: Any,
    inverse: Any,
) -> None:
    """Fills ``normed``, ``out`` and ``inverse`` (rows,), which is 1 / sqrt(variance + eps)."""
    rows, width = hidden.shape
    words = np.zeros(width // 4, np.uint64)  # all kept, unless drawn
    bits = words.view(np.uint16)
    for i in range(rows):
        if dropping:
            draw_words(state, words, width // 4)
        total = _add_row(hidden[i], residual[i], bits, threshold, factor, normed[i], width)
        mean = total / np.float32(width)
        variance = _sum_squares(normed[i], mean, width) / np.float32(width)
        inverse[i] = np.float32(1) / np.sqrt(variance + eps)
        _normalise_row(normed[i], mean, inverse[i], weight, bias, out[i], width)


@jit_helper(SUMMED)
def _gradient_sums(d_out: Any, weight: Any, normed: Any, width: Any) -> Any:
    total, dot = _ZERO, _ZERO
    for j in range(width):
        value = d_out[j] * weight[j]
        total += value
        dot += value * normed[j]
    return total, dot


@jit_helper()
def _backward_row(
    d_out: Any, weight: Any, normed: Any, mean: Any, dot: Any, inverse: Any, out: Any, width: Any
) -> None:
    for j in range(width):
        out[j] = (d_out[j] * weight[j] - mean - normed[j] * dot) * inverse


@jit_helper()
def _apply_mask(x: Any, bits: Any, threshold: Any, factor: Any, out: Any, width: Any) -> None:
    for j in range(width):
        out[j] = x[j] * (factor if bits[j] < threshold else _ZERO)


@jit_kernel(
    "void(float32[:, ::1], float32[:, ::1], float32[::1], float32[::1], boolean, uint64[::1],"
    " int64, float32, float32[:, ::1], float32[:, ::1])"
)
def _backward_rows(
    d_out: Any,
    normed: Any,
    weight: Any,
    inverse: Any,
    dropping: Any,
    state: Any,
    threshold: Any,
    factor: Any,
    d_residual: Any,
    d_hidden: Any,
) -> None:
    """Fills the gradients of the residual and, with dropout, of ``hidden``."""
    rows, width = d_out.shape
    words = np.empty(width // 4, np.uint64)
    bits = words.view(np.uint16)
    per_value = np.float32(1) / np.float32(width)
    for i in range(rows):
        total, dot = _gradient_sums(d_out[i], weight, normed[i], width)
        _backward_row(
            d_out[i], weight, normed[i], total * per_value, dot * per_value, inverse[i],
            d_residual[i], width,
        )  # fmt: skip
        if dropping:
            draw_words(state, words, width // 4)
            _apply_mask(d_residual[i], bits, threshold, factor, d_hidden[i], width)
