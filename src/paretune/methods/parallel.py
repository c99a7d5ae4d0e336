"""Parallel adapter: a bottleneck beside the feed-forward part, on the same input.

Source: He et al. 2021 (Towards a unified view), arXiv:2110.04366, section 3.3 and table 3 (scaled
parallel adapter).
Equation: h <- FFN(x) + scaling (U relu(D x + d) + u), with x what the feed-forward part is given.
Shapes: D (runs, size, width), d (runs, size), U (runs, width, size), u (runs, width);
size = width / reduction_factor.
Trained parameters: 2 * width * size + size + width for each layer.
Start: the base model (U = 0, u = 0; D normal(0, 0.02)). Does not merge. PEFT export: none.
When: much may be trained, and the change is to stand beside the feed-forward part, not behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paretune.methods import houlsby
from paretune.methods.core.injection import (
    Injection,
    add_undo_steps,
    attach,
    get_linear,
    make_generator,
)
from paretune.methods.core.options import EVERY_KIND, bounded, choice
from paretune.methods.core.run_axis import Fleet
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

NAME = "parallel"
TITLE = "parallel adapter"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
STARTS_AS_BASE = True
MIXES = True


@dataclass(frozen=True)
class Options(houlsby.Options):
    """``reduction_factor``: the width over the size; ``scaling``: what the change is times."""

    reduction_factor: int = bounded(2, 1, 4096)
    non_linearity: str = choice("relu", "silu", "gelu", "tanh")
    scaling: float = bounded(4.0, 0.01, 1024.0)


class ParallelBottleneck(houlsby.Bottleneck):
    """A bottleneck that reads what the feed-forward part was given."""

    def __init__(
        self,
        width: int,
        options: Options,
        fleet: Fleet,
        generators: list[torch.Generator],
        device: torch.device,
    ) -> None:
        super().__init__(width, options, fleet, generators, device)
        self.scaling = options.scaling
        self._given: list[Tensor] = []

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """What the feed-forward part gives, and the change by what it was given."""
        return out + self.scaling * self.compute_change(self._given.pop())

    def remember_input(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Hook before the first layer of the feed-forward part: remember its input."""
        self._given = [self.fleet.own_rows(given[0])]


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put a bottleneck beside the feed-forward part of every layer."""
    parts: dict[str, nn.Module] = {}
    removes: list[Callable[[], None]] = []
    for layer in anatomy.layers:
        down = get_linear(model, layer.down)
        draws = [make_generator(derive_seed(seed, "init", NAME, layer.down)) for seed in seeds]
        part = ParallelBottleneck(down.out_features, options, fleet, draws, down.weight.device)
        parts[layer.down] = part
        hook = model.get_submodule(layer.up[0]).register_forward_pre_hook(part.remember_input)
        removes.append(hook.remove)
    return add_undo_steps(attach(model, NAME, parts), *removes)


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """2 * width * size + size + width for each layer."""
    return len(anatomy.layers) * houlsby.bottleneck_count(anatomy.width, options)
