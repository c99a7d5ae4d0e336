"""Dropout: the bits of numpy's SFC64, drawn and used in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretune.models.dropout.masks import keep_scale, keep_threshold, seed_sequence
from paretune.models.kernels.jit import jit_helper, jit_kernel

BUFFER = 256
"""Words of 64 bits that are drawn before they are used: they stay in the first cache."""


@jit_helper()
def draw_words(state: Any, words: Any, count: Any) -> None:
    """The next ``count`` words of SFC64 (Doty-Humphrey 2010, PractRand), as numpy draws them.

    ``state``: (4,) uint64, of which the last is the counter; it goes on.
    """
    a, b, c, counter = state[0], state[1], state[2], state[3]
    for i in range(count):
        word = a + b + counter
        counter = counter + np.uint64(1)
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + word
        words[i] = word
    state[0], state[1], state[2], state[3] = a, b, c, counter


@jit_helper()
def _apply_mask(x: Any, bits: Any, count: Any, threshold: Any, factor: Any, out: Any) -> None:
    for i in range(count):
        # Times 0, as torch's dropout: what is not finite stays seen.
        out[i] = x[i] * (factor if bits[i] < threshold else np.float32(0))


@jit_kernel("void(float32[::1], float32[::1], uint64[::1], int64, float32)")
def _drop(x: Any, out: Any, state: Any, threshold: Any, factor: Any) -> None:
    words = np.empty(BUFFER, np.uint64)
    bits = words.view(np.uint16)
    start = 0
    while start < x.size:
        count = min(4 * BUFFER, x.size - start)
        stop = start + count
        draw_words(state, words, (count + 3) // 4)
        _apply_mask(x[start:stop], bits, count, threshold, factor, out[start:stop])
        start = stop


def sfc64_state(seed: int, offsets: tuple[int, ...]) -> Any:
    """State of the generator that :func:`paretune.models.dropout.masks.draw_mask` draws from."""
    state: Any = np.random.SFC64(seed_sequence(seed, offsets)).state
    return state["state"]["state"].copy()


def drop_rows(x: Tensor, parts: list[tuple[int, int]], offset: int, p: float) -> Tensor:
    """Dropout of (rows, ...), with the plain path's bits; ``parts``: seed and rows of each run."""
    contiguous = x.contiguous()
    out = torch.empty_like(contiguous)
    source, target = contiguous.detach().view(-1).numpy(), out.view(-1).numpy()
    per_row, start = contiguous[0].numel() if len(contiguous) else 0, 0
    for seed, rows in parts:
        own = slice(start, start + rows * per_row)
        state = sfc64_state(seed, (offset,))
        _drop(source[own], target[own], state, keep_threshold(p), np.float32(keep_scale(p)))
        start = own.stop
    return out
