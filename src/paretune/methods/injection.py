"""What every injected method leaves behind, and how it is taken out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass
class Injection:
    """A method inside a model.

    Attributes:
        parameters: the method's trained tensors by their names in the model, run axis first.
        undo: takes the method out; the model is the base again, bit for bit.
        extra_tokens: how many positions of a sequence the method takes for itself.
        wrapped: names of the modules that were wrapped, for the "what was wrapped" table.
    """

    parameters: dict[str, nn.Parameter]
    undo: Callable[[], None]
    extra_tokens: int = 0
    wrapped: tuple[str, ...] = ()


def generator(seed: int) -> torch.Generator:
    """A private CPU generator: what it draws depends on ``seed`` alone."""
    return torch.Generator().manual_seed(seed)


def linear(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer of this name, as ``targets`` of the anatomy gives them."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), name  # noqa: S101  (targets() resolves to linear layers)
    return layer


def replace(model: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Put ``new`` where the submodule ``name`` is; returns the old one."""
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    old = model.get_submodule(name)
    setattr(parent, leaf, new)
    return old


def wrap(
    model: nn.Module, names: list[str], make: Callable[[str, nn.Linear], nn.Module]
) -> Injection:
    """Replace each linear layer by ``make(name, layer)``, which holds it as ``base``.

    The trained tensors are those that ``make`` added; ``undo`` puts the layers back.
    """
    originals: dict[str, nn.Module] = {}
    parameters: dict[str, nn.Parameter] = {}
    for name in names:
        layer = linear(model, name)
        wrapper = make(name, layer)
        originals[name] = replace(model, name, wrapper)
        for own, parameter in wrapper.named_parameters():
            if not own.startswith("base."):
                parameters[f"{name}.{own}"] = parameter

    def undo() -> None:
        for name, layer in originals.items():
            replace(model, name, layer)

    return Injection(parameters, undo, wrapped=tuple(names))


def merge(model: nn.Module, injection: Injection) -> None:
    """Add each wrapper's ``delta()`` to its frozen weight and take the method out."""
    with torch.no_grad():
        for name in injection.wrapped:
            wrapper: Any = model.get_submodule(name)
            wrapper.base.weight += wrapper.delta()
    injection.undo()
