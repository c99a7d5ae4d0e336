"""Parallel adapter: a bottleneck beside the feed-forward part, on the same input.

Source: He et al. 2021 (Towards a unified view), arXiv:2110.04366, section 3.3 and table 3 (scaled
parallel adapter).
Equation: h <- FFN(x) + scaling (U relu(D x + d) + u), with x what the feed-forward part is given.
Shapes: D (size, width), d (size,), U (width, size), u (width,);
size = width / reduction_factor.
Trained parameters: 2 * width * size + size + width for each layer.
Start: the base model (U = 0, u = 0; D normal(0, 0.02)). Does not merge. PEFT export: none.
When: much may be trained, and the change is to stand beside the feed-forward part, not behind it.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from paretune.methods import houlsby, pfeiffer
from paretune.methods.core.injection import Injection, attach
from paretune.methods.core.method import Method
from paretune.methods.core.options import LayerOptions
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy

NAME = "parallel"


class ParallelOptions(LayerOptions, houlsby.BottleneckOptions):
    """``reduction_factor``: the width over the size; ``scaling``: the factor of the change."""

    reduction_factor: int = Field(default=2, ge=1, le=4096)
    non_linearity: houlsby.Activation = "relu"
    scaling: float = Field(default=4.0, ge=0.01, le=1024)


class ParallelBottleneck(houlsby.Bottleneck):
    """A bottleneck that reads the input of the feed-forward part."""

    def __init__(
        self,
        base: nn.Linear,
        options: ParallelOptions,
        generator: torch.Generator,
    ) -> None:
        super().__init__(base, options, generator)
        self.scaling = options.scaling
        self._inputs: list[Tensor] = []

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """The output of the feed-forward part, and the change computed from its input."""
        return out + self.scaling * self.compute_change(self._inputs.pop())

    def remember_input(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Hook before the first layer of the feed-forward part."""
        self._inputs = [args[0]]


def inject(
    model: nn.Module, anatomy: Anatomy, options: ParallelOptions, context: PassContext, seed: int
) -> Injection:
    """Put a bottleneck beside the feed-forward part of every layer."""
    names = [layer.down for layer in anatomy.layers]
    kind = ParallelBottleneck
    adapters = houlsby.make_bottlenecks(kind, model, names, options, seed, NAME)
    injection = attach(model, NAME, adapters)
    for layer in anatomy.layers:
        remember_input = adapters[layer.down].remember_input
        first = model.get_submodule(layer.up[0])
        injection.changes.hook(first.register_forward_pre_hook(remember_input))
    return injection


METHOD = Method(
    name=NAME,
    title="parallel adapter",
    options=ParallelOptions,
    learning_rates=(6e-5, 2e-4, 6e-4),
    inject=inject,
    count_parameters=pfeiffer.count_parameters,
    saved_widths=2.9,
)
