"""In which precision a run computes: master weights stay in fp32, products may be bf16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch


def autocast(device: str, precision: Literal["fp32", "bf16"]) -> AbstractContextManager[Any]:
    """The context for a forward pass: autocast to bf16, or nothing."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16)
