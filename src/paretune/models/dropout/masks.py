"""Dropout masks: a pure function of the run's seed, an offset and the number of elements.

No generator is shared, so a mask is the same whatever was drawn before, for a run alone and in a
fleet, and can be drawn once more in the backward pass instead of being kept. Bits come from numpy's
SFC64, 16 for each element, so a probability is a multiple of 2^-16, and what is kept is scaled by
exactly its inverse. On a CPU that takes a tenth of the time of torch's own dropout (dev/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_RESOLUTION = 1 << 16


def keep_threshold(p: float) -> int:
    """Of 65,536 elements, how many a dropout of ``p`` keeps: one at least."""
    return max(1, round((1 - p) * _RESOLUTION))


def keep_scale(p: float) -> float:
    """What the kept elements are multiplied by."""
    return _RESOLUTION / keep_threshold(p)


def seed_sequence(seed: int, offsets: Sequence[int]) -> np.random.SeedSequence:
    """The source of the bits at these offsets."""
    # The offsets as a spawn key: as further entropy, (1,) and (1, 0) would be the same.
    return np.random.SeedSequence(seed, spawn_key=tuple(offsets))


def mix_seed(seed: int, offsets: Sequence[int]) -> int:
    """A seed for one of torch's generators at these offsets, from 0 to 2^63 - 1."""
    return int(seed_sequence(seed, offsets).generate_state(1, np.uint64)[0]) >> 1


def draw_mask(
    seed: int, offsets: Sequence[int], count: int, p: float, device: torch.device
) -> Tensor:
    """Which of ``count`` elements are kept; (count,) of 0 and 1, int8 on a CPU, elsewhere bool."""
    if device.type == "cpu":
        source = seed_sequence(seed, offsets)
        bits = np.random.SFC64(source).random_raw(-(-count // 4)).view(np.uint16)[:count]
        return torch.from_numpy(np.less(bits, keep_threshold(p)).view(np.int8))
    # Drawn where they are used; other bits than a CPU's, as every device has its own sums.
    generator = torch.Generator(device).manual_seed(mix_seed(seed, offsets))
    keep = torch.empty(count, dtype=torch.bool, device=device)
    return keep.bernoulli_(keep_threshold(p) / _RESOLUTION, generator=generator)


def drop_by_mask(x: Tensor, keep: Tensor, p: float) -> Tensor:
    """``x`` where the mask keeps it, scaled, and 0 elsewhere."""
    if x.device.type == "cpu":
        return apply_mask(x, keep).mul_(keep_scale(p))
    # Product and scale in one kernel; by this name it is also the gradient of torch's own dropout.
    whole, mask = x.contiguous(), keep.view(x.shape)
    out: Tensor = torch.ops.aten.native_dropout_backward(whole, mask, keep_scale(p))
    return out


def apply_mask(x: Tensor, keep: Tensor, *, inplace: bool = False) -> Tensor:
    """``x`` times the mask ``keep``, which has as many elements, in any shape.

    A product, as in torch's dropout: an element that is not finite becomes NaN, not 0.
    """
    whole = x.contiguous()
    if x.dtype == torch.bfloat16:
        # Bits times 0 or 1 are bits: five times as fast as bf16 times a bool.
        ones = keep.to(torch.int16).view(whole.shape)
        bits = whole.view(torch.int16)
        return (bits.mul_(ones) if inplace else bits * ones).view(x.dtype)
    if x.device.type != "cpu":
        return whole.mul_(keep.view(whole.shape)) if inplace else whole * keep.view(whole.shape)
    # numpy multiplies by bools in one pass, torch casts them first.
    out = whole if inplace else torch.empty_like(whole)
    np.multiply(whole.numpy(), keep.numpy().view(np.bool_).reshape(whole.shape), out=out.numpy())
    return out
