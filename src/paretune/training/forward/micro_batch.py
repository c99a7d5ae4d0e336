"""Batches of a step, micro-batches of a pass, and the Protocol of forward paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from paretune.methods.core.run_axis import Fleet
from paretune.objectives.encoding import Encoded
from paretune.training.runs.run_config import Compute, RunConfig


@dataclass(frozen=True)
class StepBatch:
    """The examples of one optimizer step of one run.

    ``indices`` is empty where the run takes no step. ``step`` is 0-based.
    """

    data: Encoded
    indices: Sequence[int]
    step: int
    config: RunConfig

    @property
    def weight(self) -> int:
        """The divisor of the summed loss: number of examples, or of their target tokens."""
        return self.config.objective.weight(self.data, self.indices)

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


class Forward(Protocol):
    """Runs the examples of one or several runs through a model.

    Paths differ in speed, in rounding, and in the random numbers that dropout draws; in nothing
    else. ``fleet`` tells the methods inside the model which rows of a pass belong to which run.
    """

    @property
    def model(self) -> Any:
        """A ``transformers`` model with the methods of all runs inside."""

    @property
    def fleet(self) -> Fleet:
        """The run axis."""

    @property
    def compute(self) -> Compute:
        """Device and precision."""

    @property
    def splitter(self) -> Splitter:
        """Decides which examples share a pass."""

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> list[Any]:
        """The model's outputs for the examples of each run.

        Logits, (examples, labels) or (examples, choices), in the order of ``indices``; of
        sequence-to-sequence the scores of the target tokens (``TokenOutputs``).
        """
