"""Where a run was trained: versions, threads, device. Part of ``measured``, never of a result."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from paretune.measuring.processor import read_processor_name
from paretune.models.kernels.policy import numba_version

PACKAGES = ("paretune", "torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn")


def describe_environment(device: str, *, compiled: bool = False) -> dict[str, Any]:
    """Versions and hardware, as plain values: whether two runs may be compared depends on them.

    Args:
        device: where the run was trained.
        compiled: whether it used compiled kernels (:mod:`paretune.models.kernels`), which round
            differently.
    """
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": read_processor_name(),
        "threads": torch.get_num_threads(),
        "compiled": f"numba {numba_version()}" if compiled else None,
        "packages": {name: version(name) for name in PACKAGES},
        **describe_device(device),
    }


def describe_device(device: str) -> dict[str, str]:
    """The kind of a device and, of a GPU, the card's name: cards of one name measure alike."""
    kind = {"device": device.split(":")[0]}
    if device.startswith("cuda"):
        return {**kind, "device_name": torch.cuda.get_device_name(device)}
    return kind
