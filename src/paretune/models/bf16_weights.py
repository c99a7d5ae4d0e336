"""Frozen weights stored in bf16, instead of being cast to it in every step.

Under bf16 autocast every product casts its weight, at every step; a weight that is never trained
can be cast once, with the same bits in every product and half the memory. Embeddings,
normalisations and biases stay as they are: autocast does not cast them either.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from paretune.models.structure.anatomy import Anatomy


def cast_to_bf16(model: Any, anatomy: Anatomy) -> None:
    """Cast the matrices of the backbone's linear layers to bf16, in place; the rest stays fp32.

    A matrix that another module uses too (an output layer tied to the embeddings) stays as it is.
    What is not cast is copied: as loaded, tensors are views of the mapped weight file, and one of
    them keeps all of its pages in memory, those of the cast matrices too.
    """
    cast = {*_castable_matrices(model, anatomy)}
    for parameter in model.parameters():
        dtype = torch.bfloat16 if parameter in cast else torch.float32
        parameter.data = parameter.data.to(dtype, copy=True)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:  # a view would keep the file mapped
                dtype = torch.float32 if buffer.is_floating_point() else buffer.dtype
                module._buffers[name] = buffer.to(dtype, copy=True)


def bf16_model_bytes(model: Any, anatomy: Anatomy) -> int:
    """Bytes of all parameters as :func:`cast_to_bf16` leaves them; on meta too."""
    total: int = sum(p.numel() for p in model.parameters())
    return 4 * total - 2 * sum(weight.numel() for weight in _castable_matrices(model, anatomy))


def _castable_matrices(model: Any, anatomy: Anatomy) -> list[Tensor]:
    uses = Counter(
        parameter
        for module in model.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    )
    layers = [model.get_submodule(name) for name in anatomy.linear_layers]
    return [
        layer.weight for layer in layers if isinstance(layer, nn.Linear) and uses[layer.weight] == 1
    ]
