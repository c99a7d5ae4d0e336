"""From rows of tokens to one block for each head of each sequence, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.models.kernels.jit import jit_kernel


@jit_kernel("void(float32[:, ::1], int64, int64[::1], int64, int64, float32, float32[:, :, ::1])")
def split_heads(
    x: Any, start: Any, lengths: Any, heads: Any, virtual: Any, factor: Any, out: Any
) -> None:
    """Rows from ``start`` on, times ``factor``, behind ``virtual`` positions that are left alone.

    Shapes: x (rows, width), lengths (sequences,) -> (sequences * heads, virtual + longest, width of
    a head), 0 behind the end of a sequence.
    """
    width = out.shape[2]
    row = start
    for sequence in range(lengths.size):
        length = lengths[sequence]
        for head in range(heads):
            block = out[sequence * heads + head]
            for i in range(length):
                for j in range(width):
                    block[virtual + i, j] = x[row + i, head * width + j] * factor
            for i in range(virtual + length, out.shape[1]):
                for j in range(width):
                    block[i, j] = np.float32(0)
        row += length


@jit_kernel("void(float32[:, :, ::1], int64, int64[::1], int64, int64, float32, float32[:, ::1])")
def merge_heads(
    blocks: Any, start: Any, lengths: Any, heads: Any, virtual: Any, factor: Any, x: Any
) -> None:
    """The inverse of :func:`split_heads`: positions of no token are left out."""
    width = blocks.shape[2]
    row = start
    for sequence in range(lengths.size):
        length = lengths[sequence]
        for head in range(heads):
            block = blocks[sequence * heads + head]
            for i in range(length):
                for j in range(width):
                    x[row + i, head * width + j] = block[virtual + i, j] * factor
        row += length
