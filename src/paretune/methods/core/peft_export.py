"""From a method inside a model to the same method by PEFT, with the same tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from paretune.methods.core.injection import Injection


def fill_peft_layers(
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
    theirs = wrap_in_peft(model, config)
    for name, parameter in injection.parameters.items():
        if name in injection.base_weights:  # trained in full, saved as the head is
            continue
        place, _, own = name.rpartition(f".{key}.")
        held = getattr(theirs.base_model.model.get_submodule(place), names[own])["default"]
        copy_run_tensor(getattr(held, "weight", held), parameter)
    return theirs


def wrap_in_peft(model: nn.Module, config: Any) -> Any:
    """PEFT's model around a fresh base."""
    import peft

    with suppress_checkpointing_warning():
        return peft.get_peft_model(model, config)


@contextmanager
def suppress_checkpointing_warning() -> Iterator[None]:
    """Without the warning that PEFT looks at ``is_gradient_checkpointing``.

    Every PeftModel that is made does (peft up to 0.21, PeftModel.__init__); transformers 5 calls
    it ``is_activation_checkpointing`` and warns whoever reads the old name. It is PEFT's to mend,
    and nothing that a user of paretune could do.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"`is_gradient_checkpointing` is deprecated", category=FutureWarning
        )
        yield


def copy_run_tensor(theirs: Any, ours: Tensor) -> None:
    """Copy the tensor of our only run."""
    with torch.no_grad():
        theirs.copy_(ours[0].reshape(theirs.shape))
