"""Batches of a step, micro-batches of a pass, and what a forward path is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from paretune.data.batch import PASS_OVERHEAD_TOKENS
from paretune.methods.core.run_axis import Fleet
from paretune.objectives import LossOptions, Objective
from paretune.objectives.encoding import Encoded
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
class StepBatch:
    """The examples of one optimizer step of one run, and how their loss is computed.

    Attributes:
        indices: of the examples; empty where the run takes no step.
        step: 0-based.
        seed: of the run's dropout.
        loss_options: label smoothing, and the scale of a regression's targets.
        micro_batch: examples of one forward pass at most.
        pass_overhead_tokens: fixed cost of a forward pass, in tokens.
    """

    data: Encoded
    indices: Sequence[int] = ()
    step: int = 0
    seed: int = 0
    objective: Objective
    loss_options: LossOptions
    micro_batch: int
    pass_overhead_tokens: int = PASS_OVERHEAD_TOKENS

    @property
    def weight(self) -> int:
        """The divisor of the summed loss: number of examples, or of their target tokens."""
        return self.objective.weight(self.data, self.indices)

    @property
    def tokens(self) -> int:
        """Tokens of the examples' longest choices, without padding."""
        return sum(self.data.lengths[i] for i in self.indices)


@dataclass(frozen=True)
class MicroBatch:
    """The examples of one run in one forward pass.

    ``indices`` is empty where the run has no examples in this pass. ``part`` numbers the run's
    micro-batches of the step: dropout is seeded by it.
    """

    data: Encoded
    indices: Sequence[int] = ()
    part: int = 0


class Splitter(Protocol):
    """Decides which examples share a forward pass."""

    def split_training(self, batches: Sequence[StepBatch]) -> list[list[MicroBatch]]:
        """The passes of one optimizer step of each run: in each, one micro-batch of every run."""

    def split_evaluation(self, data: Sequence[Encoded | None]) -> list[list[MicroBatch]]:
        """The passes over all examples of each run; None: the run is not evaluated."""


@dataclass(frozen=True)
class Forward(ABC):
    """Runs the examples of one or several runs through a model.

    Paths differ in speed, in rounding, and in the random numbers that dropout draws; in nothing
    else.

    Attributes:
        model: a ``transformers`` model with the methods of all runs inside.
        fleet: tells these methods which rows of a pass belong to which run.
        pad_id: padding is masked, so any token would do.
    """

    model: Any
    fleet: Fleet
    compute: Compute
    pad_id: int
    splitter: Splitter

    @abstractmethod
    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[Any]:
        """The model's outputs for the examples of each run.

        Logits, (examples, labels) or (examples, choices), in the order of ``indices``; of
        sequence-to-sequence the scores of the target tokens (``TokenOutputs``).
        """
