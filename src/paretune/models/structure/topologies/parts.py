"""What several layouts look up in a model."""

from __future__ import annotations

from typing import Any

from torch import nn


def outermost_outside(model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
    """The outermost modules with parameters, none of which belongs to the backbone."""
    outermost: list[str] = []
    for name, module in model.named_modules():
        own = [f"{name}.{n}" if name else n for n, _ in module.named_parameters()]
        inside = any(name.startswith(f"{outer}.") for outer in outermost)
        if own and not inside and not backbone.intersection(own):
            outermost.append(name)
    return tuple(outermost)


def position_limit(model: Any) -> int | None:
    """Positions that the config allows; None where it says nothing."""
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    return limit


def join_names(parent: str, child: str) -> str:
    """The name of a module's child; the model itself is ""."""
    return f"{parent}.{child}" if parent else child
