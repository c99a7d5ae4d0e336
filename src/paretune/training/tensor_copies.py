"""Copies of trained tensors for later: beside a GPU's memory, which the next step needs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def copy_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; of a GPU's tensors in pinned memory, into which the next copy is quick."""
    return {name: _copy_tensor(tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def copy_tensors(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy values into tensors of the same names, wherever either lies."""
    for name, value in values.items():
        into[name].copy_(value)


def _copy_tensor(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    pinned = tensor.device.type == "cuda"
    kept = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
    return kept.copy_(tensor)
