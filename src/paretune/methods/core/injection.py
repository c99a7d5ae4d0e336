"""What every injected method leaves behind, and how it is taken out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from paretune.methods.core.method import Method


@dataclass
class Injection:
    """A method inside a model.

    Attributes:
        parameters: the method's trained tensors by their names in the model, run axis first.
        undo: takes the method out; the model is the base again, bit for bit.
        virtual_tokens: how many positions of a sequence the method takes for itself.
        learning_rate_factors: by name, what the learning rate of a tensor is multiplied by, where
            not by 1.
        members: the members of a stack with their own injections, in order.
        adapters: what stands beside which module of the model, by that module's name.
        supports_packing: whether the method serves packed batches too (models.packing).
        modules_to_save: names of the base's modules that are trained in full beside the method.
        base_weights: by name, the base's own weights of these, which ``undo`` puts back.
        placeholder_id: the token that stands where ``virtual_tokens`` of a prompt go.
    """

    parameters: dict[str, nn.Parameter]
    undo: Callable[[], None]
    virtual_tokens: int = 0
    learning_rate_factors: dict[str, float] = field(default_factory=dict)
    members: tuple[tuple[Method, Injection], ...] = ()
    adapters: dict[str, nn.Module] = field(default_factory=dict)
    supports_packing: bool = True
    placeholder_id: int = 0
    modules_to_save: tuple[str, ...] = ()
    base_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def finish_merge(self) -> None:
        """Take the method out of a merged model: what was trained in full stays."""
        self.base_weights.clear()
        self.undo()


def get_linear(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer of this name; the anatomy's targets are linear layers."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), name  # noqa: S101  (targets resolve to linear layers)
    return layer


def is_within(name: str, modules: Sequence[str]) -> bool:
    """Whether a name is that of one of the modules, or of something inside it."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def attach(
    model: nn.Module, key: str, parts: Mapping[str, nn.Module], *, hooked: bool = True
) -> Injection:
    """Put each part beside the module of its name, as its child ``key``.

    A part is called with the module's input and output and gives the output that the model goes on
    with: ``part(x, out)``. The module itself is left as it is, so methods can stand beside one
    another, and taking one out leaves no trace. With ``hooked`` False the parts only stand there.
    """
    handles = []
    parameters: dict[str, nn.Parameter] = {}
    children: list[tuple[nn.Module, str]] = []
    for name, part in parts.items():
        module = model.get_submodule(name)
        # In a fleet, runs of the same method with other options may stand there already.
        child, number = key, 1
        while hasattr(module, child):
            child, number = f"{key}_{number + 1}", number + 1
        module.add_module(child, part)
        children.append((module, child))
        if hooked:
            handles.append(module.register_forward_hook(_make_hook(part)))
        for own, parameter in part.named_parameters():
            parameters[f"{name}.{key}.{own}"] = parameter

    def undo() -> None:
        for handle in handles:
            handle.remove()
        for module, child in children:
            delattr(module, child)

    return Injection(parameters, undo, adapters=dict(parts))


def add_undo_steps(injection: Injection, *steps: Callable[[], None]) -> Injection:
    """The injection, whose ``undo`` takes these steps first."""
    undo = injection.undo

    def undo_all() -> None:
        for step in steps:
            step()
        undo()

    injection.undo = undo_all
    return injection


def _make_hook(part: Any) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def call(module: nn.Module, given: tuple[Any, ...], out: Any) -> Any:
        # In the dtype of the module: under autocast a bf16 output must not come back in fp32, which
        # the model's own code (DeBERTa's masks, attention kernels) does not expect.
        return part.fleet.apply_to_own_rows(part, given[0], out).to(out.dtype)

    return call


def merge_deltas(model: nn.Module, injection: Injection) -> None:
    """Add each adapter's ``delta()`` to the frozen weight beside it and take the method out."""
    adapters: dict[str, Any] = injection.adapters
    with torch.no_grad():
        for name, adapter in adapters.items():
            get_linear(model, name).weight += adapter.delta()
    injection.finish_merge()
