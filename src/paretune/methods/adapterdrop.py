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

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods import houlsby, pfeiffer
from paretune.methods.core.injection import Injection
from paretune.methods.core.method import Method
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

NAME = "adapterdrop"


class AdapterDropOptions(houlsby.BottleneckOptions):
    """``drop`` None is the lower half. ``robust_up_to`` None is all layers but the last.

    Where there are two stacks, these count in each.
    """

    non_linearity: houlsby.Activation = "relu"
    drop: int | None = Field(default=None, ge=0, le=1000)
    robust: bool = False
    robust_up_to: int | None = Field(default=None, ge=0, le=1000)
    READ_WITH: ClassVar[Mapping[str, str]] = {"robust_up_to": "robust"}

    def count_layers_below(self, anatomy: Anatomy) -> int:
        """How many layers are dropped; 0 where each step drops others."""
        return 0 if self.robust else _count_dropped(len(anatomy.stacks[0]), self)[0]


class DroppableBottleneck(pfeiffer.PfeifferBottleneck):
    """A bottleneck that is skipped where the layers up to its own are dropped.

    Attributes:
        dropped: how many of a stack's first layers have no adapter in evaluation.
        max_in_training: a training step drops up to so many at random; None: as in evaluation.
    """

    context: PassContext
    depth: int
    dropped: int
    max_in_training: int | None

    def forward(self, h: Tensor, out: Tensor) -> Tensor:
        """``out``, with or without the bottleneck's change."""
        return out if self.depth < self.count_dropped() else super().forward(h, out)

    def count_dropped(self) -> int:
        """How many of the first layers have no adapter in this pass."""
        if not self.training or self.max_in_training is None:
            return self.dropped
        # The step's seed gives the same number in all layers and micro-batches, and after resuming.
        return derive_seed(self.context.step_seed, NAME) % (self.max_in_training + 1)


def inject(
    model: nn.Module, anatomy: Anatomy, options: AdapterDropOptions, context: PassContext, seed: int
) -> Injection:
    """Put a bottleneck behind the feed-forward part of the layers that are not dropped.

    Raises:
        MethodError: no layer would be left.
    """
    positions = _adapter_positions(anatomy, options)
    adapters = houlsby.make_bottlenecks(DroppableBottleneck, model, positions, options, seed, NAME)
    for name, adapter in adapters.items():
        adapter.context = context
        adapter.depth, adapter.dropped, adapter.max_in_training = positions[name]
    return pfeiffer.attach_behind_feed_forward(model, anatomy, NAME, adapters)


def count_parameters(model: nn.Module, anatomy: Anatomy, options: AdapterDropOptions) -> int:
    """2 * width * size + size + width for each layer that has a bottleneck."""
    return len(_adapter_positions(anatomy, options)) * options.count(anatomy.width)


def _adapter_positions(
    anatomy: Anatomy, options: AdapterDropOptions
) -> dict[str, tuple[int, int, int | None]]:
    """Second feed-forward layers that get a bottleneck: their depth, and what is dropped."""
    positions = {}
    for stack in anatomy.stacks:
        dropped, max_in_training = _count_dropped(len(stack), options)
        for depth, layer in enumerate(stack):
            if options.robust or depth >= dropped:
                positions[layer.down] = depth, dropped, max_in_training
    return positions


def _count_dropped(layers: int, options: AdapterDropOptions) -> tuple[int, int | None]:
    """How many layers of a stack evaluation drops, and how many a training step drops at most."""
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


METHOD = Method(
    name=NAME,
    title="AdapterDrop",
    options=AdapterDropOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    # LLM-Adapters (Hu et al. 2023, arXiv:2304.01933) takes 3e-4 on LLaMA.
    decoder_learning_rates=(1e-4, 3e-4, 1e-3),
    inject=inject,
    count_parameters=count_parameters,
    code_epoch=2,
    saved_widths=2.6,
)
