"""Names of modules and parameters, as ``named_modules`` gives them."""

from __future__ import annotations

from typing import Any

from torch import nn

from paretune.errors import ModelError


def find_name(model: nn.Module, part: Any) -> str:
    """The name under which a model holds one of its modules.

    Raises:
        ModelError: it does not hold it.
    """
    names: list[str] = [name for name, module in model.named_modules() if module is part]
    if not names:
        raise ModelError(f"{type(model).__name__} does not hold its own {type(part).__name__}.")
    return names[0]


def parent_name(name: str) -> str:
    """Name of the module that holds what is called ``name``; "" is the model."""
    return name.rpartition(".")[0]


def is_within(name: str, module: str) -> bool:
    """Whether a module or a parameter is ``module`` or a part of it."""
    return name == module or name.startswith(f"{module}.")
