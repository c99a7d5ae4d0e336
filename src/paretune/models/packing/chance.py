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

from paretune.models import compiled

_STEPS = 1 << 16
PLACES = 64
"""Dropouts that one layer may have; layer ``i`` counts from ``PLACES * (i + 1)``."""


@dataclass
class Chance:
    """The seeds of the present pass and a count of the dropouts so far.

    ``seeds`` has one for each run; ``shares`` lists by how many rows a tensor may be shared among
    them (tokens, sequences); alone, a run owns every row. ``compiled``: whether a compiled pass
    (paretune.models.compiled) has been taken.
    """

    seeds: list[int] = field(default_factory=lambda: [0])
    shares: list[list[int]] = field(default_factory=list)
    place: int = 0
    compiled: bool = False

    def begin(self, seeds: Sequence[int], shares: Sequence[Sequence[int]]) -> None:
        """Start a forward pass."""
        self.seeds, self.shares, self.place = list(seeds), [list(s) for s in shares], 0

    def next(self) -> int:
        """The place of the next dropout."""
        self.place += 1
        return self.place

    def parts(self, rows: int) -> list[tuple[int, int]]:
        """Seed and rows of each run in a tensor of so many rows.

        Raises:
            ValueError: the rows are not shared among the runs in a known way.
        """
        if len(self.seeds) == 1:
            return [(self.seeds[0], rows)]
        for shares in self.shares:
            if sum(shares) == rows:
                return list(zip(self.seeds, shares, strict=True))
        raise ValueError(f"{rows} rows are not those of the runs: {self.shares}")


def steps_kept(p: float) -> int:
    """Of 65,536 elements, how many a dropout of ``p`` keeps: one at least."""
    return max(1, round((1 - p) * _STEPS))


def scale(p: float) -> float:
    """What the kept elements are multiplied by."""
    return _STEPS / steps_kept(p)


def source(seed: int, place: Sequence[int]) -> np.random.SeedSequence:
    """What the bits of a place are drawn from."""
    # The place as a spawn key: as further entropy, (1,) and (1, 0) would be the same.
    return np.random.SeedSequence(seed, spawn_key=tuple(place))


def kept(seed: int, place: Sequence[int], count: int, p: float, device: torch.device) -> Tensor:
    """Which of ``count`` elements are kept; (count,) of 0 and 1, int8 or bool."""
    sown = source(seed, place)
    if device.type == "cpu":
        bits = np.random.SFC64(sown).random_raw(-(-count // 4)).view(np.uint16)[:count]
        return torch.from_numpy(np.less(bits, steps_kept(p)).view(np.int8))
    # Drawn where they are used; other bits than a CPU's, as every device has its own sums.
    mixed = int(sown.generate_state(1, np.uint64)[0]) >> 1
    generator = torch.Generator(device).manual_seed(mixed)
    drawn = torch.rand(count, generator=generator, device=device)
    return drawn < steps_kept(p) / _STEPS


def blank(x: Tensor, keep: Tensor, *, inplace: bool = False) -> Tensor:
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


def _dropped(x: Tensor, parts: list[tuple[int, int]], place: int, p: float) -> Tensor:
    if compiled.computes(x):
        from paretune.models.packing.compiled.draws import dropped

        return dropped(x, parts, place, p)
    each = x[0].numel() if len(x) else 0
    drawn = [kept(seed, (place,), rows * each, p, x.device) for seed, rows in parts]
    return blank(x, drawn[0] if len(drawn) == 1 else torch.cat(drawn)).mul_(scale(p))


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, chance: Chance, p: float) -> Tensor:
        ctx.p, ctx.place, ctx.parts = p, chance.next(), chance.parts(len(x))
        chance.compiled |= compiled.computes(x)
        return _dropped(x, ctx.parts, ctx.place, p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _dropped(gradient, ctx.parts, ctx.place, ctx.p), None, None


def drop(x: Tensor, chance: Chance, p: float) -> Tensor:
    """Dropout of (rows, ...) with probability ``p``; runs own consecutive rows."""
    return _Drop.apply(x, chance, p) if p > 0 else x  # type: ignore[no-untyped-call]


def by_chance(module: nn.Dropout, chance: Chance) -> None:
    """Let a dropout module draw from ``chance``; ``del module.forward`` gives it back its own."""
    module.forward = lambda x: drop(x, chance, module.p) if module.training else x  # type: ignore[method-assign,assignment]
