"""A combination of methods in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paretune.methods.core.layer_subset import ALL


def describe_layers(stack: Sequence[Mapping[str, Any]]) -> str:
    """``lora rank 16 in 0-5 + ia3``: a configuration in words."""
    parts = []
    for member in stack:
        own = [f"{k} {v}" for k, v in member.items() if k not in ("name", "layers")]
        inside = member.get("layers", ALL)
        parts.append(" ".join([member["name"], *own, *([] if inside == ALL else ["in", inside])]))
    return " + ".join(parts)
