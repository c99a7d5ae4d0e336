"""AdapterDrop: adapters in the upper layers only, or, in training, above a random layer.

Source: Rücklé et al. 2020, arXiv:2010.11918, sections 4.1 (specialised) and 4.2 (robust).
Equation: that of :mod:`paretune.methods.pfeiffer` in the layers from ``drop`` on. With ``robust``,
adapters stand in all layers; each training step leaves out the first n, with n uniform on
0 .. robust_up_to, and evaluation leaves out the first ``drop``. A translation model has two stacks
of layers, and each loses its first.
Trained parameters: 2 * width * size + size + width for each layer that has one.
Start: the base model (U = 0, u = 0). Does not merge. PEFT export: none.
When: training or answering must be faster than with adapters in every layer.

Below the first adapter nothing is trained, so the backward pass ends there: that is the speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods import houlsby, pfeiffer
from paretune.methods.core.injection import Injection, get_linear, make_generator
from paretune.methods.core.options import EVERY_KIND, bounded, choice
from paretune.methods.core.run_axis import Fleet
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

NAME = "adapterdrop"
TITLE = "AdapterDrop"
CODE_EPOCH = 2
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True


@dataclass(frozen=True)
class Options(houlsby.Options):
    """``drop`` None is the lower half. ``robust_up_to`` None is all layers but the last.

    Where there are two stacks, these count in each.
    """

    reduction_factor: int = bounded(16, 1, 4096)
    non_linearity: str = choice("relu", "silu", "gelu", "tanh")
    drop: int | None = bounded(None, 0, 1000)
    robust: bool = False
    robust_up_to: int | None = bounded(None, 0, 1000)


class DroppableBottleneck(pfeiffer.Bottleneck):
    """A bottleneck that steps aside where the layers up to its own are left out."""

    def __init__(
        self,
        depth: int,
        left_out: tuple[int, int | None],
        width: int,
        options: Options,
        fleet: Fleet,
        generators: list[torch.Generator],
        device: torch.device,
    ) -> None:
        super().__init__(width, options, fleet, generators, device)
        self.depth = depth
        self.in_evaluation, self.up_to_in_training = left_out

    def forward(self, h: Tensor, out: Tensor) -> Tensor:
        """What is changed, with or without the bottleneck's change."""
        return out if self.depth < self.count_dropped() else super().forward(h, out)

    def count_dropped(self) -> int:
        """How many of the first layers are without adapters in this pass."""
        if not self.training or self.up_to_in_training is None:
            return self.in_evaluation
        # Drawn from the step's seed: the same in all layers and micro-batches, and on resuming.
        return derive_seed(self.fleet.step_seed, NAME) % (self.up_to_in_training + 1)


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put a bottleneck behind the feed-forward part of the layers that are not dropped.

    Raises:
        MethodError: no layer would be left.
    """

    def made(name: str, depth: int, left_out: tuple[int, int | None]) -> nn.Module:
        layer = get_linear(model, name)
        draws = [make_generator(derive_seed(seed, "init", NAME, name)) for seed in seeds]
        return DroppableBottleneck(
            depth, left_out, layer.out_features, options, fleet, draws, layer.weight.device
        )

    places = _adapter_positions(anatomy, options)
    parts = {name: made(name, depth, left_out) for name, (depth, left_out) in places.items()}
    return pfeiffer.attach_behind_feed_forward(model, anatomy, NAME, parts)


def trains_alone(options: Options) -> bool:
    """Each step of ``robust`` leaves out other layers: for all rows of a pass alike."""
    return options.robust


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """2 * width * size + size + width for each layer that has a bottleneck."""
    return len(_adapter_positions(anatomy, options)) * houlsby.bottleneck_count(
        anatomy.width, options
    )


def _adapter_positions(
    anatomy: Anatomy, options: Options
) -> dict[str, tuple[int, tuple[int, int | None]]]:
    """Second feed-forward layers that get a bottleneck: depth in the stack, and what it loses."""
    places = {}
    for layer, depth in zip(anatomy.layers, anatomy.depths, strict=True):
        size = sum(other.stack == layer.stack for other in anatomy.layers)
        drop, up_to = _count_dropped(size, options)
        if depth >= (drop if up_to is None else 0):
            places[layer.down] = depth, (drop, up_to)
    return places


def _count_dropped(layers: int, options: Options) -> tuple[int, int | None]:
    """Layers left out in evaluation, and how many at most in training (None: the same)."""
    drop = layers // 2 if options.drop is None else options.drop
    up_to = layers - 1 if options.robust_up_to is None else options.robust_up_to
    highest = max(drop, up_to) if options.robust else drop
    if highest >= layers:
        raise MethodError(
            f"{highest} layers dropped leave none of {layers}.",
            where=f"method {NAME}",
            remedy=f"Drop {layers - 1} at most.",
        )
    return drop, up_to if options.robust else None
