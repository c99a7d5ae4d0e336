"""What methods share in a pass, and the run axis of their tensors.

Every trained tensor of a method has a leading axis of length 1, the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paretune.models.dropout import DropoutRng, seeded_dropout
from paretune.models.packing.layout import Packing
from paretune.study import derive_seed


@dataclass
class Fleet:
    """What a pass through the model needs to know beside its batch.

    Attributes:
        runs: the length of the run axis.
        step_seed: the seed of what a method draws once in a training step.
        packing: how batches are packed; None: they are padded.
        dropout_rng: what dropout is drawn from; None for torch's own generator.
    """

    runs: int = 1
    step_seed: int = 0
    packing: Packing | None = None
    dropout_rng: DropoutRng | None = None

    def stop_packing(self) -> None:
        """From now on batches are padded, and dropout is torch's own."""
        self.packing = self.dropout_rng = None

    def seed_dropout(self, seeds: list[int]) -> None:
        """Seed the dropout of the next pass, one seed per run."""
        rng = self.dropout_rng if self.packing is None else self.packing.dropout_rng
        if rng is not None:
            rng.begin_pass(seeds, [])
        torch.manual_seed(seeds[0])  # what models and tuners of peft draw themselves

    def dropout_context(self) -> AbstractContextManager[Any]:
        """The context for a forward and backward pass in training."""
        return nullcontext() if self.dropout_rng is None else seeded_dropout(self.dropout_rng)


def per_run_linear(x: Tensor, weight: Tensor, fleet: Fleet) -> Tensor:
    """Shapes: ``x`` (rows, ..., in), ``weight`` (1, out, in) -> (rows, ..., out)."""
    return F.linear(x, weight[0])


def per_run_vector(x: Tensor, vector: Tensor, fleet: Fleet) -> Tensor:
    """Shapes: ``x`` (rows, ..., width), ``vector`` (1, width) -> (width,)."""
    return vector[0]


def per_run_rows(values: Tensor, rows: int, fleet: Fleet) -> Tensor:
    """The matrix once for each row: (1, n, width) -> (rows, n, width)."""
    return values.expand(rows, -1, -1)


def make_generator(seed: int) -> torch.Generator:
    """A private generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def init_generators(seeds: Sequence[int], *purpose: str) -> list[torch.Generator]:
    """A generator for each run, for the tensors of one place (``purpose``).

    So each run's slice of a tensor is drawn from that run's seed alone.
    """
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
