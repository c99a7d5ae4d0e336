"""Settings of one run's training, all choices made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paretune.data.batch import PASS_OVERHEAD_TOKENS
from paretune.objectives import LossOptions, Objective
from paretune.study import Run, Training
from paretune.training.optimisation.precision import Compute


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of one run's training.

    Attributes:
        run: what the study asks for.
        device: where it trains.
        micro_batch: most examples in one forward pass.
        num_classes: possible answers; the loss at which a run has diverged depends on it.
        objective: what kind of task it is.
        loss_options: label smoothing, and the scale of a regression's targets.
        pass_overhead_tokens: fixed cost of a forward pass, in tokens.
        learning_rate_factors: of the learning rate, by parameter name; 1 where not named.
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
    def training(self) -> Training:
        """The study's settings."""
        return self.run.training

    @property
    def compute(self) -> Compute:
        """Device and precision."""
        return Compute.of(self.run, self.device)

    @property
    def seed(self) -> int:
        """All random numbers of the run are derived from it."""
        return self.run.seed

    @property
    def learning_rate(self) -> float:
        """The highest one of the schedule."""
        return self.run.learning_rate or 0.0

    def count_steps(self, examples: int) -> tuple[int, int, int]:
        """Steps in an epoch, steps in all, and steps between evaluations."""
        training = self.training
        per_epoch = -(-examples // training.batch_size)
        total = training.max_steps or training.epochs * per_epoch
        return per_epoch, total, min(training.eval_every or per_epoch, total)
