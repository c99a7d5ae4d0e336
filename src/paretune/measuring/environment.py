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
    """Plain values that let a reader judge whether two runs may be compared.

    Args:
        device: where the run was trained.
        compiled: whether it took compiled passes (paretune.models.kernels.policy), which round
        otherwise.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": read_processor_name(),
        "threads": torch.get_num_threads(),
        "compiled": f"numba {numba_version()}" if compiled else None,
        "packages": {name: version(name) for name in PACKAGES},
    }
    return found | describe_device(device)


def describe_device(device: str) -> dict[str, str]:
    """The kind of a device and, of a GPU, the name of the card: two of one name measure alike."""
    found = {"device": device.split(":")[0]}
    if device.startswith("cuda"):
        found["device_name"] = torch.cuda.get_device_name(device)
    return found
