"""Initial values of a method's tensors: each run's slice from that run's seed alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from paretune.study import derive_seed


def make_generator(seed: int) -> torch.Generator:
    """A private generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def init_generators(seeds: Sequence[int], *purpose: str) -> list[torch.Generator]:
    """A generator for each run, for the tensors of one place (``purpose``)."""
    return [make_generator(derive_seed(seed, "init", *purpose)) for seed in seeds]


def draw_uniform(
    shape: Sequence[int], fan_in: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """(runs, *shape), uniform on +-1/sqrt(fan_in)."""
    values = torch.empty(len(generators), *shape)
    bound = 1 / math.sqrt(fan_in)
    for run, generator in enumerate(generators):
        values[run].uniform_(-bound, bound, generator=generator)
    return values


def draw_normal(shape: Sequence[int], std: float, generators: Sequence[torch.Generator]) -> Tensor:
    """(runs, *shape), normal with mean 0."""
    values = torch.empty(len(generators), *shape)
    for run, generator in enumerate(generators):
        values[run].normal_(0, std, generator=generator)
    return values
