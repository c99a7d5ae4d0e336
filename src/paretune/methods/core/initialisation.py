"""Draws the tensors of a method: each place has its own generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from paretune.study import derive_seed


def init_generator(seed: int, *purpose: str) -> torch.Generator:
    """A generator on the CPU for the tensors of one place.

    Draws of one place do not change those of another.

    Args:
        seed: the run's seed.
        purpose: the method and the place.
    """
    return torch.Generator().manual_seed(derive_seed(seed, "init", *purpose))


def draw_uniform(shape: Sequence[int], fan_in: int, generator: torch.Generator) -> Tensor:
    """A tensor of this shape, uniform on +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(*shape).uniform_(-bound, bound, generator=generator)


def draw_normal(shape: Sequence[int], std: float, generator: torch.Generator) -> Tensor:
    """A tensor of this shape, normal with mean 0."""
    return torch.empty(*shape).normal_(0, std, generator=generator)
