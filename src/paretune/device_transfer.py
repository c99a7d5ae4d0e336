"""Copies from the processor to a device without waiting for it.

A copy from ordinary memory to a GPU waits until the GPU has done all it was asked for. A copy from
pinned memory is queued behind that, and the processor goes on preparing the next kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: Tensor | NDArray[Any] | Sequence[Any], device: str | torch.device) -> Tensor:
    """Values of the processor as a tensor on a device; integers of a list as int64."""
    if isinstance(values, Tensor):
        tensor = values
    else:
        tensor = torch.from_numpy(np.asarray(values, None if len(values) else np.int64))
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
