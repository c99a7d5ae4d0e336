"""Copies of trained parameters on the CPU: a GPU's memory is needed for the next step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def copy_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; of GPU tensors in pinned memory, into which further copies are fast."""
    return {name: _copy_tensor(tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def copy_tensors(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of the same names, on any device."""
    for name, value in values.items():
        into[name].copy_(value)


def _copy_tensor(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    pinned = tensor.device.type == "cuda"
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
    return copy.copy_(tensor)
