"""Dropout that a run draws from its seed.

A mask is a pure function of the run's seed, an offset and the number of elements: no generator is
shared, so it is the same whatever was drawn before, and it is drawn once more in the backward pass
instead of being kept. Bits come from numpy's SFC64, 16 for each element, so a probability is a
multiple of 2^-16, and the elements that stay are scaled by exactly its inverse. A CPU takes a tenth
of the time of torch's own dropout (dev/log.md). A pass draws from a :class:`DropoutRng`,
:func:`seeded_dropout` puts it in the place of torch's dropout, :func:`set_dropout` sets the
probabilities of a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.dropout import _DropoutNd

_RESOLUTION = 1 << 16


def keep_threshold(p: float) -> int:
    """How many of 65,536 elements a dropout of ``p`` keeps: one at least."""
    return max(1, round((1 - p) * _RESOLUTION))


def keep_scale(p: float) -> float:
    """The factor of the elements that dropout keeps."""
    return _RESOLUTION / keep_threshold(p)


def draw_mask(
    seed: int, offsets: Sequence[int], count: int, p: float, device: torch.device
) -> Tensor:
    """Mark the elements that dropout keeps; (count,) of 0 and 1, int8 on a CPU, elsewhere bool."""
    # The offsets as a spawn key: as further entropy, (1,) and (1, 0) would be the same.
    source = np.random.SeedSequence(seed, spawn_key=tuple(offsets))
    if device.type == "cpu":
        bits = np.random.SFC64(source).random_raw(-(-count // 4)).view(np.uint16)[:count]
        return torch.from_numpy(np.less(bits, keep_threshold(p)).view(np.int8))
    # Drawn where they are used; other bits than a CPU's, as every device has its own sums.
    mixed = int(source.generate_state(1, np.uint64)[0]) >> 1  # from 0 to 2^63 - 1
    generator = torch.Generator(device).manual_seed(mixed)
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
        factors = keep.to(torch.int16).view(whole.shape)
        bits = whole.view(torch.int16)
        return (bits.mul_(factors) if inplace else bits * factors).view(x.dtype)
    if x.device.type != "cpu":
        return whole.mul_(keep.view(whole.shape)) if inplace else whole * keep.view(whole.shape)
    # numpy multiplies by bools in one pass, torch casts them first.
    out = whole if inplace else torch.empty_like(whole)
    np.multiply(whole.numpy(), keep.numpy().view(np.bool_).reshape(whole.shape), out=out.numpy())
    return out


class _Drop(torch.autograd.Function):
    """Dropout by a mask that is drawn again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: int, offset: int, p: float) -> Tensor:
        ctx.draw = seed, offset, p
        return _drop(x, *ctx.draw)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _drop(gradient, *ctx.draw), None, None, None


def _drop(x: Tensor, seed: int, offset: int, p: float) -> Tensor:
    return drop_by_mask(x, draw_mask(seed, (offset,), x.numel(), p, x.device), p)


OFFSETS_PER_LAYER = 64
"""Dropouts that one layer may have; layer ``i`` counts from ``OFFSETS_PER_LAYER * (i + 1)``."""


@dataclass
class DropoutRng:
    """Draws every dropout of a pass: the mask is a pure function of seed, layer and offset.

    Attributes:
        offset: of the last dropout. It counts from the start of the pass, and anew in each layer.
    """

    seed: int = 0
    offset: int = 0

    def begin_pass(self, seed: int) -> None:
        """Start a forward pass: offsets are counted from 0."""
        self.seed = seed
        self.offset = 0

    def next_offset(self) -> int:
        """The offset of the next dropout."""
        self.offset += 1
        return self.offset

    def drop(self, x: Tensor, p: float) -> Tensor:
        """Dropout of a tensor of any shape with probability ``p``."""
        if p <= 0:
            return x
        return _Drop.apply(x, self.seed, self.next_offset(), p)  # type: ignore[no-untyped-call,no-any-return]


@contextmanager
def seeded_dropout(rng: DropoutRng) -> Iterator[None]:
    """Draw every dropout of a forward and backward pass from ``rng``, one pass at a time.

    Marian, T5 and others call ``torch.nn.functional.dropout`` themselves, with no module to hook,
    and ``nn.Dropout`` calls it too. (A torch function mode would see every function of torch, and
    is off in what a backward pass computes again.)
    """
    before = F.dropout

    def dropout(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        # Never in place, which is only a way to save memory.
        return rng.drop(input, p) if training else input

    F.dropout = dropout
    try:
        yield
    finally:
        F.dropout = before


DropoutRates = dict[tuple[str, str], float]
"""Dropout probabilities by the name of the module, or ``config``, and of its attribute."""


def read_dropout_rates(model: nn.Module) -> DropoutRates:
    """All dropout probabilities of a model."""
    return {place: value for place, value, *_ in _list_rates(model)}


def set_dropout(model: nn.Module, p: float) -> None:
    """Set every dropout probability of the model to ``p``.

    Reaches ``nn.Dropout`` modules, the numbers that attention hands to its kernel (ModernBERT's
    ``attention_dropout``), and the config. A layer that was built without dropout (ModernBERT's
    and ELECTRA's where the config has 0) gets none.
    """
    for *_, owner, attribute in _list_rates(model):
        setattr(owner, attribute, p)


def restore_dropout(model: nn.Module, rates: DropoutRates) -> None:
    """Set the probabilities of :func:`read_dropout_rates`; modules added later keep theirs."""
    for place, value, owner, attribute in _list_rates(model):
        setattr(owner, attribute, rates.get(place, value))


def has_dropout(model: nn.Module) -> bool:
    """Whether any dropout of the model is on."""
    return any(value > 0 for _, value, *_ in _list_rates(model))


def _list_rates(model: nn.Module) -> Iterator[tuple[tuple[str, str], float, Any, str]]:
    """Place, value, owner and attribute of each probability."""
    owners: list[tuple[str, Any]] = [
        *model.named_modules(),
        ("config", getattr(model, "config", None)),
    ]
    for name, owner in owners:
        if owner is None:
            continue
        for attribute, value in list(vars(owner).items()):
            named = "dropout" in attribute or (attribute == "p" and isinstance(owner, _DropoutNd))
            if named and isinstance(value, float | int) and not isinstance(value, bool):
                yield (name, attribute), float(value), owner, attribute
