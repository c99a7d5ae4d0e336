"""Mask, softmax and dropout of attention's scores in one kernel, and their gradient in another.

Probabilities are never below 0, so their sign can say what dropout took: no mask is kept, and the
backward kernel draws nothing. Shapes, everywhere: scores (sequences * heads, queries, keys),
``queries`` and ``keys`` (sequences,), and ``virtual`` keys of a prefix before those of tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.models.kernels.dropout_rows import draw_words
from paretune.models.kernels.jit import SUMMED, jit_helper, jit_kernel

DRAW_ELEMENTS = 4096
"""Elements whose bits are drawn together; more where one row has more."""

_ZERO = np.float32(0)
_MASKED = np.float32(np.finfo(np.float32).min)
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_MAGIC = np.float32(1.5 * 2**23)
"""Added to a number below 2**22, it leaves the nearest integer in the lowest bits."""
_MAGIC_BITS = 0x4B400000
_LOWEST = np.float32(-87)


@jit_helper()
def exp(x: Any) -> Any:
    """The exponential of x <= 0 to 1e-7 of it (Cephes, ``expf``: Moshier 1989); 0 below -87."""
    shifted = x * _LOG2_E + _MAGIC
    whole = shifted - _MAGIC
    rest = x - whole * _LN2_HIGH
    rest = rest - whole * _LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * rest + np.float32(1.3981999507e-3)
    p = p * rest + np.float32(8.3334519073e-3)
    p = p * rest + np.float32(4.1665795894e-2)
    p = p * rest + np.float32(1.6666665459e-1)
    p = p * rest + np.float32(5.0000001201e-1)
    p = p * rest * rest + rest + np.float32(1)
    exponent = np.int32((np.float32(shifted).view(np.int32) - (_MAGIC_BITS - 127)) << 23)
    return _ZERO if x < _LOWEST else p * exponent.view(np.float32)


@jit_helper()
def _max(row: Any, count: Any) -> Any:
    """The largest number, from bits that are in the same order as integers; NaN is largest."""
    largest = np.int32(-(2**31))
    for j in range(count):
        bits = row[j]
        largest = max(largest, np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(largest ^ ((largest >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@jit_helper()
def _exp_row(row: Any, count: Any, largest: Any, scaling: Any) -> None:
    for j in range(count):
        row[j] = exp((row[j] - largest) * scaling)


@jit_helper(SUMMED)
def _sum_row(row: Any, count: Any) -> Any:
    total = _ZERO
    for j in range(count):
        total += row[j]
    return total


@jit_helper()
def _scale_row(row: Any, count: Any, factor: Any) -> None:
    for j in range(count):
        row[j] *= factor


@jit_helper()
def _drop_row(row: Any, count: Any, factor: Any, bits: Any, threshold: Any, kept: Any) -> None:
    for j in range(count):
        prob = row[j] * factor
        keep = bits[j] < threshold
        kept[j] = prob if keep else _ZERO
        row[j] = prob if keep else -prob


@jit_kernel(
    "void(float32[:, :, ::1], float32[:, :, ::1], int64[::1], int64[::1], int64, int64, int64,"
    " float32, boolean, uint64[::1], int64)"
)
def forward(
    scores: Any,
    kept: Any,
    queries: Any,
    keys: Any,
    heads: Any,
    virtual: Any,
    window: Any,
    scaling: Any,
    dropping: Any,
    state: Any,
    threshold: Any,
) -> None:
    """Scores become probabilities, in place; negative where dropout takes them.

    Args:
        scores: before ``scaling``, which is above 0.
        kept: like scores; filled with the probabilities that dropout keeps, 0 elsewhere. Not
            touched without dropout.
        queries: number of queries of each sequence; other rows become 0.
        window: a token this far away or farther is masked; 0: none is.
        state: of SFC64; it advances by the elements of scores, 16 bits each.
        threshold: of 65,536 elements, how many are kept.
    """
    blocks, length, width = scores.shape
    as_bits = scores.view(np.int32)
    rows_per_draw = 4  # rows whose elements fill whole words
    while 2 * rows_per_draw * width <= DRAW_ELEMENTS:
        rows_per_draw *= 2
    words = np.empty((rows_per_draw * width + 3) // 4 if dropping else 1, np.uint64)
    bits = words.view(np.uint16)
    for first in range(0, blocks * length, rows_per_draw):
        rows = min(rows_per_draw, blocks * length - first)
        if dropping:
            draw_words(state, words, (rows * width + 3) // 4)
        for r in range(rows):
            block = (first + r) // length
            i = first + r - block * length
            sequence = block // heads
            row, kept_row = scores[block, i], kept[block, i]
            count = virtual + keys[sequence] if i < queries[sequence] else 0
            if count:
                if window:
                    for j in range(virtual, virtual + i - window + 1):
                        row[j] = _MASKED
                    for j in range(virtual + i + window, count):
                        row[j] = _MASKED
                _exp_row(row, count, _max(as_bits[block, i], count), scaling)
                factor = np.float32(1) / _sum_row(row, count)
                if dropping:
                    row_bits = bits[r * width : (r + 1) * width]
                    _drop_row(row, count, factor, row_bits, threshold, kept_row)
                else:
                    _scale_row(row, count, factor)
            for j in range(count, width):
                row[j] = _ZERO
            if dropping:
                for j in range(count, width):
                    kept_row[j] = _ZERO


@jit_helper(SUMMED)
def _dot(row: Any, d_row: Any, count: Any) -> Any:
    total = _ZERO
    for j in range(count):
        total += (_ZERO if row[j] <= _ZERO else row[j]) * d_row[j]
    return total


@jit_helper()
def _backward_dropped_row(
    row: Any, d_row: Any, count: Any, dot: Any, scaling: Any, kept: Any
) -> None:
    for j in range(count):
        prob = row[j]
        dropped = prob <= _ZERO
        d_row[j] = abs(prob) * ((_ZERO if dropped else d_row[j]) - dot) * scaling
        kept[j] = _ZERO if dropped else prob


@jit_helper()
def _backward_row(row: Any, d_row: Any, count: Any, dot: Any, scaling: Any) -> None:
    for j in range(count):
        d_row[j] = row[j] * (d_row[j] - dot) * scaling


@jit_kernel(
    "void(float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], int64[::1], int64[::1],"
    " int64, int64, float32, boolean)"
)
def backward(
    probs: Any,
    d_scores: Any,
    kept: Any,
    queries: Any,
    keys: Any,
    heads: Any,
    virtual: Any,
    scaling: Any,
    dropping: Any,
) -> None:
    """The gradient of the probabilities behind dropout becomes that of the scores, in place.

    Args:
        d_scores: gradient of the probabilities behind dropout, with its factor in it.
        kept: filled with the probabilities that dropout keeps; not touched without dropout.
    """
    blocks, length, width = probs.shape
    for block in range(blocks):
        sequence = block // heads
        for i in range(length):
            row, d_row, kept_row = probs[block, i], d_scores[block, i], kept[block, i]
            count = virtual + keys[sequence] if i < queries[sequence] else 0
            dot = _dot(row, d_row, count)
            if dropping:
                _backward_dropped_row(row, d_row, count, dot, scaling, kept_row)
                for j in range(count, width):
                    kept_row[j] = _ZERO
            else:
                _backward_row(row, d_row, count, dot, scaling)
            for j in range(count, width):
                d_row[j] = _ZERO
