"""Mask, softmax and dropout of attention's scores in one pass, and the way back in another.

Shares are never below 0, so the sign of one says whether dropout took it: no mask is kept, and the
way back draws nothing. Shapes, everywhere: scores (sequences * heads, queries, keys), ``queries``
and ``keys`` (sequences,) the tokens of each, ``virtual`` keys of a prefix before those of tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.models.kernels.dropout_rows import draw_words
from paretune.models.kernels.jit import SUMMED, jit_helper, jit_kernel

DRAW_ELEMENTS = 4096
"""Elements for which bits are drawn at once; some more where one row has more."""

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
    """Of numbers given as their bits, which as integers are in the same order; NaN is largest."""
    found = np.int32(-(2**31))
    for j in range(count):
        bits = row[j]
        found = max(found, np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(found ^ ((found >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


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
def _drop_row(row: Any, count: Any, factor: Any, bits: Any, steps: Any, seen: Any) -> None:
    for j in range(count):
        share = row[j] * factor
        kept = bits[j] < steps
        seen[j] = share if kept else _ZERO
        row[j] = share if kept else -share


@jit_kernel(
    "void(float32[:, :, ::1], float32[:, :, ::1], int64[::1], int64[::1], int64, int64, int64,"
    " float32, boolean, uint64[::1], int64)"
)
def forward(
    scores: Any,
    seen: Any,
    queries: Any,
    keys: Any,
    heads: Any,
    virtual: Any,
    window: Any,
    scaling: Any,
    dropping: Any,
    state: Any,
    steps: Any,
) -> None:
    """Scores become shares, in place; those that dropout takes are negative, and 0 in ``seen``.

    Args:
        scores: before ``scaling``, which is above 0.
        seen: like scores; not touched without dropout.
        queries: tokens that look; other rows become 0.
        keys: tokens that are looked at.
        heads: of each sequence.
        virtual: keys of the prefix.
        window: a token this far away or farther is not seen; 0: all are.
        scaling: of scores.
        dropping: whether there is dropout.
        state: SFC64's; it goes on by the elements of scores, 16 bits each.
        steps: of 65,536, how many are kept.
    """
    blocks, length, width = scores.shape
    as_bits = scores.view(np.int32)
    at_once = 4  # rows whose elements fill whole words
    while 2 * at_once * width <= DRAW_ELEMENTS:
        at_once *= 2
    words = np.empty((at_once * width + 3) // 4 if dropping else 1, np.uint64)
    bits = words.view(np.uint16)
    for first in range(0, blocks * length, at_once):
        rows = min(at_once, blocks * length - first)
        if dropping:
            draw_words(state, words, (rows * width + 3) // 4)
        for r in range(rows):
            block = (first + r) // length
            i = first + r - block * length
            sequence = block // heads
            row, left = scores[block, i], seen[block, i]
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
                    own = bits[r * width : (r + 1) * width]
                    _drop_row(row, count, factor, own, steps, left)
                else:
                    _scale_row(row, count, factor)
            for j in range(count, width):
                row[j] = _ZERO
            if dropping:
                for j in range(count, width):
                    left[j] = _ZERO


@jit_helper(SUMMED)
def _dot(row: Any, given: Any, count: Any) -> Any:
    total = _ZERO
    for j in range(count):
        total += (_ZERO if row[j] <= _ZERO else row[j]) * given[j]
    return total


@jit_helper()
def _backward_dropped_row(
    row: Any, given: Any, count: Any, along: Any, scaling: Any, seen: Any
) -> None:
    for j in range(count):
        share = row[j]
        gone = share <= _ZERO
        given[j] = abs(share) * ((_ZERO if gone else given[j]) - along) * scaling
        seen[j] = _ZERO if gone else share


@jit_helper()
def _backward_row(row: Any, given: Any, count: Any, along: Any, scaling: Any) -> None:
    for j in range(count):
        given[j] = row[j] * (given[j] - along) * scaling


@jit_kernel(
    "void(float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], int64[::1], int64[::1],"
    " int64, int64, float32, boolean)"
)
def backward(
    shares: Any,
    given: Any,
    seen: Any,
    queries: Any,
    keys: Any,
    heads: Any,
    virtual: Any,
    scaling: Any,
    dropping: Any,
) -> None:
    """The gradient of what was seen becomes that of the scores, in place.

    Args:
        shares: as :func:`forward` left them.
        given: gradient of the shares behind dropout, with its factor in it.
        seen: filled with the shares that dropout left; not touched without dropout.
        queries: tokens that look.
        keys: tokens that are looked at.
        heads: of each sequence.
        virtual: keys of the prefix.
        scaling: of scores.
        dropping: whether there was dropout.
    """
    blocks, length, width = shares.shape
    for block in range(blocks):
        sequence = block // heads
        for i in range(length):
            row, own, left = shares[block, i], given[block, i], seen[block, i]
            count = virtual + keys[sequence] if i < queries[sequence] else 0
            along = _dot(row, own, count)
            if dropping:
                _backward_dropped_row(row, own, count, along, scaling, left)
                for j in range(count, width):
                    left[j] = _ZERO
            else:
                _backward_row(row, own, count, along, scaling)
            for j in range(count, width):
                own[j] = _ZERO
