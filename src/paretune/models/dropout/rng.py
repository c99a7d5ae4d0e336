"""Dropout whose mask is drawn once more in the backward pass instead of being kept.

What falls away depends on the run's seed for this pass and on the place of the dropout in the
forward pass, and on nothing else: no generator is shared, so it is the same whatever ran before,
alone or in a fleet. Bits come from SFC64 (16 for each element, so a probability is a multiple of
2^-16, and the kept elements are scaled by exactly the inverse of what is kept), which takes a tenth
of the time of torch's own dropout on a CPU (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.kernels import policy

_RESOLUTION = 1 << 16
OFFSETS_PER_LAYER = 64
"""Dropouts that one layer may have; layer ``i`` counts from ``PLACES * (i + 1)``."""


@dataclass
class DropoutRng:
    """The seeds of the present pass and a count of the dropouts so far.

    ``seeds`` has one for each run; ``row_splits`` lists by how many rows a tensor may be shared
    among
    them (tokens, sequences); alone, a run owns every row. ``used_kernels``: whether a compiled pass
    (paretune.models.kernels.policy) has been taken.
    """

    seeds: list[int] = field(default_factory=lambda: [0])
    row_splits: list[list[int]] = field(default_factory=list)
    offset: int = 0
    used_kernels: bool = False

    def begin_pass(self, seeds: Sequence[int], shares: Sequence[Sequence[int]]) -> None:
        """Start a forward pass."""
        self.seeds, self.row_splits, self.offset = list(seeds), [list(s) for s in shares], 0

    def next_offset(self) -> int:
        """The place of the next dropout."""
        self.offset += 1
        return self.offset

    def split_rows(self, rows: int) -> list[tuple[int, int]]:
        """Seed and rows of each run in a tensor of so many rows.

        Raises:
            ValueError: the rows are not shared among the runs in a known way.
        """
        if len(self.seeds) == 1:
            return [(self.seeds[0], rows)]
        for shares in self.row_splits:
            if sum(shares) == rows:
                return list(zip(self.seeds, shares, strict=True))
        raise ValueError(f"{rows} rows are not those of the runs: {self.row_splits}")


def keep_threshold(p: float) -> int:
    """Of 65,536 elements, how many a dropout of ``p`` keeps: one at least."""
    return max(1, round((1 - p) * _RESOLUTION))


def keep_scale(p: float) -> float:
    """What the kept elements are multiplied by."""
    return _RESOLUTION / keep_threshold(p)


def seed_sequence(seed: int, place: Sequence[int]) -> np.random.SeedSequence:
    """What the bits of a place are drawn from."""
    # The place as a spawn key: as further entropy, (1,) and (1, 0) would be the same.
    return np.random.SeedSequence(seed, spawn_key=tuple(place))


def draw_mask(
    seed: int, place: Sequence[int], count: int, p: float, device: torch.device
) -> Tensor:
    """Which of ``count`` elements are kept; (count,) of 0 and 1, int8 or bool."""
    sown = seed_sequence(seed, place)
    if device.type == "cpu":
        bits = np.random.SFC64(sown).random_raw(-(-count // 4)).view(np.uint16)[:count]
        return torch.from_numpy(np.less(bits, keep_threshold(p)).view(np.int8))
    # Drawn where they are used; other bits than a CPU's, as every device has its own sums.
    mixed = int(sown.generate_state(1, np.uint64)[0]) >> 1
    generator = torch.Generator(device).manual_seed(mixed)
    drawn = torch.rand(count, generator=generator, device=device)
    return drawn < keep_threshold(p) / _RESOLUTION


def apply_mask(x: Tensor, keep: Tensor, *, inplace: bool = False) -> Tensor:
    """``x`` with 0 wherever ``keep``, of as many elements, has 0; as torch's dropout, times 0."""
    held = x.contiguous()
    if x.dtype == torch.bfloat16:
        # Bits times 0 or 1 are bits: five times as fast as bf16 times a bool.
        ones = keep.to(torch.int16).view(held.shape)
        whole = held.view(torch.int16)
        return (whole.mul_(ones) if inplace else whole * ones).view(x.dtype)
    if x.device.type != "cpu":
        return held.mul_(keep.view(held.shape)) if inplace else held * keep.view(held.shape)
    # numpy multiplies by bools in one pass, torch casts them first.
    out = held if inplace else torch.empty_like(held)
    np.multiply(held.numpy(), keep.numpy().view(np.bool_).reshape(held.shape), out=out.numpy())
    return out


def _drop_rows(x: Tensor, parts: list[tuple[int, int]], place: int, p: float) -> Tensor:
    if policy.can_use_kernels(x):
        from paretune.models.kernels.dropout_rows import drop_rows

        return drop_rows(x, parts, place, p)
    each = x[0].numel() if len(x) else 0
    drawn = [draw_mask(seed, (place,), rows * each, p, x.device) for seed, rows in parts]
    return apply_mask(x, drawn[0] if len(drawn) == 1 else torch.cat(drawn)).mul_(keep_scale(p))


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, chance: DropoutRng, p: float) -> Tensor:
        ctx.p, ctx.place, ctx.parts = p, chance.next_offset(), chance.split_rows(len(x))
        chance.used_kernels |= policy.can_use_kernels(x)
        return _drop_rows(x, ctx.parts, ctx.place, p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _drop_rows(gradient, ctx.parts, ctx.place, ctx.p), None, None


def drop(x: Tensor, chance: DropoutRng, p: float) -> Tensor:
    """Dropout of (rows, ...) with probability ``p``; runs own consecutive rows."""
    return _Drop.apply(x, chance, p) if p > 0 else x  # type: ignore[no-untyped-call]


def by_chance(module: nn.Dropout, chance: DropoutRng) -> None:
    """Let a dropout module draw from ``chance``; ``del module.forward`` gives it back its own."""
    module.forward = lambda x: drop(x, chance, module.p) if module.training else x  # type: ignore[method-assign,assignment]
