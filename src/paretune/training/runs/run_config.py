"""Settings of one run's training, all choices made: device and precision among them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from paretune.data.batch import PASS_OVERHEAD_TOKENS
from paretune.objectives import LossOptions, Objective
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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of one run's training.

    Attributes:
        num_classes: possible answers; the loss at which a run has diverged depends on it.
        loss_options: label smoothing, and the scale of a regression's targets.
        pass_overhead_tokens: fixed cost of a forward pass, in tokens.
    """

    run: Run
    device: str
    micro_batch: int
    num_classes: int
    objective: Objective
    loss_options: LossOptions
    pass_overhead_tokens: int = PASS_OVERHEAD_TOKENS
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def compute(self) -> Compute:
        """Device and precision."""
        return Compute.of(self.run, self.device)

    def count_steps(self, examples: int) -> tuple[int, int, int]:
        """Steps in an epoch, steps in all, and steps between evaluations."""
        training = self.run.training
        per_epoch = -(-examples // training.batch_size)
        total = training.max_steps or training.epochs * per_epoch
        return per_epoch, total, min(training.eval_every or per_epoch, total)
