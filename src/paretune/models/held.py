"""A frozen base held in the precision in which it computes, instead of being cast in each step.

Under bf16 autocast every product casts its weight, at every step; a weight that is never trained
can be cast once, with the same bits in every product and half the memory. Tables of embeddings,
normalisations and biases stay as they are: autocast does not cast them either.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paretune.models.anatomy import Anatomy


def hold_bf16(model: Any, anatomy: Anatomy) -> None:
    """Cast the matrices of the backbone's linear layers to bf16, in place; the rest stays fp32.

    A matrix that something else uses too (an output layer tied to the embeddings) stays as it is.
    What is not cast is copied: as opened, tensors are views into the mapped weight file, and one of
    them is enough to keep all of its pages, those of the cast matrices too, in memory.
    """
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    cast: set[int] = set()
    for name in anatomy.linears:
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear) and uses[id(layer.weight)] == 1:
            layer.weight.data = layer.weight.data.to(torch.bfloat16)
            cast.add(id(layer.weight))
    for parameter in model.parameters():
        if id(parameter) not in cast:
            parameter.data = parameter.data.clone()
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:  # in its place: as a view, it would keep what it looks into
                module._buffers[name] = buffer.clone()
