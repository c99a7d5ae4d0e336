"""Dropout, residual sum and layer normalisation in one kernel, and their gradient in another.

Source: Ba et al. 2016, arXiv:1607.06450, equation 4: y = w * (x - mean) / sqrt(variance + eps) + b,
here of x = residual + dropout(hidden). The backward kernel reads the normalised x.
Shapes, everywhere: (rows, width), width a multiple of 4; weight and bias (width,).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.models.kernels.dropout_rows import draw_words
from paretune.models.kernels.jit import SUMMED, jit_helper, jit_kernel

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
def forward(
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
def backward(
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
