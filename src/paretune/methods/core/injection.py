"""The record of a method in a model, by which it is trained and taken out again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from paretune.models.changes import ModelChanges


@dataclass
class Injection:
    """A method inside a model.

    Attributes:
        parameters: the method's trained tensors by their names in the model.
        virtual_tokens: those that stand in the text's sequence, before it.
        prefix_positions: positions that a decoder's prefix takes before its text.
        learning_rate_factors: by name, the factor of a tensor's learning rate, where it is not 1.
        adapters: the modules that stand beside modules of the model, by those modules' names.
        modules_to_save: names of the base's modules that are trained in full beside the method.
        base_weights: by name, the base's own weights of these, which ``undo`` puts back.
        members: of a stack, each with the name of its method.
    """

    parameters: dict[str, nn.Parameter]
    changes: ModelChanges = field(default_factory=ModelChanges)
    virtual_tokens: int = 0
    prefix_positions: int = 0
    placeholder_id: int = 0
    learning_rate_factors: dict[str, float] = field(default_factory=dict)
    adapters: dict[str, nn.Module] = field(default_factory=dict)
    supports_packing: bool = True
    modules_to_save: tuple[str, ...] = ()
    base_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    members: tuple[tuple[str, Injection], ...] = ()

    @property
    def positions_before_text(self) -> int:
        """How many of a model's positions a text cannot take."""
        return self.virtual_tokens + self.prefix_positions

    def absorb(self, part: Injection) -> None:
        """Add what another method has left in the same model; ``undo`` takes both out."""
        self.parameters |= part.parameters
        self.adapters |= part.adapters
        self.virtual_tokens += part.virtual_tokens
        self.prefix_positions += part.prefix_positions
        self.placeholder_id = self.placeholder_id or part.placeholder_id
        self.supports_packing &= part.supports_packing
        self.changes.callback(part.undo)

    def undo(self) -> None:
        """Take the method out; the model is the base again, bit for bit."""
        self.changes.close()

    def finish_merge(self) -> None:
        """Take the method out of a merged model: what was trained in full stays."""
        self.base_weights.clear()
        self.undo()


def get_linear(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer of this name; the anatomy's targets are linear layers."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), name  # noqa: S101  (targets resolve to linear layers)
    return layer


def attach(
    model: nn.Module, key: str, adapters: Mapping[str, nn.Module], *, hooked: bool = True
) -> Injection:
    """Put each adapter beside the module of its name, as that module's child ``key``.

    An adapter is called with the module's input and output and gives the output that the model goes
    on with: ``adapter(x, out)``. The module itself is left as it is, so methods can stand beside
    one another, and taking one out leaves no trace. With ``hooked`` False nothing calls them.
    """
    changes = ModelChanges()
    parameters: dict[str, nn.Parameter] = {}
    for name, adapter in adapters.items():
        module = model.get_submodule(name)
        # A stack may have the same method with other options there already.
        child, number = key, 1
        while child in dict(module.named_children()):
            number += 1
            child = f"{key}_{number}"
        changes.add_module(module, child, adapter)
        if hooked:
            changes.hook(module.register_forward_hook(partial(_call_beside, adapter)))
        for tensor_name, parameter in adapter.named_parameters():
            parameters[f"{name}.{key}.{tensor_name}"] = parameter
    return Injection(parameters, changes, adapters=dict(adapters))


def _call_beside(adapter: Any, module: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
    # In the dtype of the module: under autocast a bf16 output must not come back in fp32, which
    # the model's own code (DeBERTa's masks, attention kernels) does not expect.
    return adapter(args[0], out).to(out.dtype)


def merge_deltas(model: nn.Module, injection: Injection) -> None:
    """Add each adapter's ``delta()`` to the frozen weight beside it and take the method out."""
    adapters: dict[str, Any] = injection.adapters
    with torch.no_grad():
        for name, adapter in adapters.items():
            get_linear(model, name).weight += adapter.delta()
    injection.finish_merge()


def fill_peft_layers(
    model: nn.Module, config: Any, injection: Injection, key: str, names: Mapping[str, str]
) -> Any:
    """PEFT's model with our tensors in it, for adapters beside layers.

    Args:
        key: the adapters' name as children of their layers.
    """
    peft_model = wrap_in_peft(model, config)
    for name, parameter in injection.parameters.items():
        if name in injection.base_weights:  # trained in full, saved as the head is
            continue
        layer, _, tensor_name = name.rpartition(f".{key}.")
        target = getattr(peft_model.base_model.model.get_submodule(layer), names[tensor_name])[
            "default"
        ]
        copy_tensor(getattr(target, "weight", target), parameter)
    return peft_model


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


def copy_tensor(target: Any, tensor: Tensor) -> None:
    """Copy a trained tensor into PEFT's, which may have another shape for the same numbers."""
    with torch.no_grad():
        target.copy_(tensor.reshape(target.shape))
