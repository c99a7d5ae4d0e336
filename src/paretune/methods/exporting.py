"""From a method inside a model to the same method by PEFT, with the same tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paretune.methods.injection import Injection


def beside_layers(
    model: nn.Module, config: Any, injection: Injection, key: str, names: Mapping[str, str]
) -> Any:
    """PEFT's model with our tensors in it, for methods that stand beside layers.

    Args:
        model: a fresh base.
        config: PEFT's, of the same method.
        injection: ours, of one run.
        key: under which it stands beside the layers.
        names: our tensors' names to PEFT's.
    """
    import peft

    theirs: Any = peft.get_peft_model(model, config)
    for name, parameter in injection.parameters.items():
        place, _, own = name.rpartition(f".{key}.")
        held = getattr(theirs.base_model.model.get_submodule(place), names[own])["default"]
        fill(getattr(held, "weight", held), parameter)
    return theirs


def fill(theirs: Any, ours: Tensor) -> None:
    """Copy the tensor of our only run."""
    with torch.no_grad():
        theirs.copy_(ours[0].reshape(theirs.shape))
