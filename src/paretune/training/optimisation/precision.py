"""Device and precision of a run: master weights stay in fp32, matrix products may be bf16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from paretune.study import Run


@dataclass(frozen=True)
class Compute:
    """Where and how precisely a model is computed."""

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"

    @classmethod
    def of(cls, run: Run, device: str) -> Compute:
        """That of a run whose precision is concrete."""
        return cls(device, "bf16" if run.training.precision == "bf16" else "fp32")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for a forward pass: autocast to bf16, or nothing."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16)
