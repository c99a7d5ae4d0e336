"""Rebuilding a trained method with PEFT: the same tensors in PEFT's own modules."""

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
    """PEFT's model with our tensors in it, for adapters beside layers.

    Args:
        key: the adapters' name as children of their layers.
    """
    theirs = wrap_in_peft(model, config)
    for name, parameter in injection.parameters.items():
        if name in injection.base_weights:  # trained in full, saved as the head is
            continue
        layer, _, own = name.rpartition(f".{key}.")
        target = getattr(theirs.base_model.model.get_submodule(layer), names[own])["default"]
        copy_run_tensor(getattr(target, "weight", target), parameter)
    return theirs


def wrap_in_peft(model: nn.Module, config: Any) -> Any:
    """PEFT's model around a fresh base."""
    import peft

    with suppress_checkpointing_warning():
        return peft.get_peft_model(model, config)


@contextmanager
def suppress_checkpointing_warning() -> Iterator[None]:
    """Suppress a warning that users of paretune can do nothing about.

    ``PeftModel.__init__`` (peft up to 0.21) reads ``is_gradient_checkpointing``, which transformers
    5 renamed to ``is_activation_checkpointing``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"`is_gradient_checkpointing` is deprecated", category=FutureWarning
        )
        yield


def copy_run_tensor(theirs: Any, ours: Tensor) -> None:
    """Copy the only run's slice of our tensor (runs, ...) into PEFT's."""
    with torch.no_grad():
        theirs.copy_(ours[0].reshape(theirs.shape))
