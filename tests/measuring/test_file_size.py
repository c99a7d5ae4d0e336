"""The size of a file that is never written is that of the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from paretune.measuring.components import count_safetensors_bytes, count_tensor_bytes

DRAWN = np.random.default_rng(0)
MANY = {
    f"layer.{i}.weight": torch.zeros(DRAWN.integers(1, 40, DRAWN.integers(0, 4)).tolist())
    for i in range(50)
}


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"a": torch.zeros(3)},
        {'č"\\\n': torch.zeros(2, 5), "b": torch.zeros(())},
        {"z": torch.zeros(3, dtype=torch.bfloat16), "a": torch.zeros(7), "m": torch.zeros(0, 4)},
        MANY,
    ],
)
def test_the_size_is_that_of_the_file(tensors: dict[str, Tensor]) -> None:
    assert count_safetensors_bytes(tensors) == len(save(tensors))


def test_only_shapes_are_looked_at() -> None:
    """A tensor that has no numbers has a size all the same."""
    huge = {"weight": torch.empty(1 << 20, 1 << 20, device="meta")}
    assert count_tensor_bytes(huge) == 4 << 40
    assert 0 < count_safetensors_bytes(huge) - (4 << 40) < 200
