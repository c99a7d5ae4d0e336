"""What one run trains with, all choices made, and what it makes small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from paretune.data.batch import PASS_OVERHEAD_TOKENS
from paretune.methods.core.run_axis import Fleet
from paretune.objectives.encoding import Encoded
from paretune.objectives.target_scale import TargetScale
from paretune.study import Training
from paretune.training.forward.packed import outputs
from paretune.training.forward.seq2seq import pairs_loss
from paretune.training.objective import LABEL_SMOOTHING, sum_losses
from paretune.training.precision import autocast


@dataclass(frozen=True)
class RunConfig:
    """What one run trains with, all choices made."""

    settings: Training
    learning_rate: float
    seed: int
    micro_batch: int
    num_labels: int
    pad_id: int
    device: str
    precision: Literal["fp32", "bf16"]
    checkpoint: Path
    checkpoint_seconds: float = 60.0
    pass_tokens: int = PASS_OVERHEAD_TOKENS
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    scale: TargetScale | None = None

    def loss(self, model: nn.Module, data: Encoded, indices: list[int], fleet: Fleet) -> Tensor:
        """What training makes small: the summed loss of some examples, in nats."""
        with autocast(self.device, self.precision):
            if data.targets is None:
                logits = outputs(model, data, indices, fleet, self.pad_id, self.device)
                return self.loss_of(logits, data, indices)
            return pairs_loss(
                model,
                (data, indices),
                fleet,
                pad_id=self.pad_id,
                device=self.device,
                label_smoothing=self.smoothing(data),
            )

    def loss_of(self, logits: Tensor, data: Encoded, indices: list[int]) -> Tensor:
        """The same from the model's outputs to some examples, (examples, labels)."""
        labels = [data.labels[i] for i in indices]
        return sum_losses(logits, labels, self.scale, self.smoothing(data))

    def smoothing(self, data: Encoded) -> float:
        """Label smoothing of what is learnt from these examples."""
        given = self.settings.label_smoothing
        unasked = 0.0 if data.targets is None else LABEL_SMOOTHING
        return unasked if given is None else given

    def steps(self, examples: int) -> tuple[int, int, int]:
        """Steps in an epoch, steps in all, and steps between evaluations."""
        per_epoch = -(-examples // self.settings.batch_size)
        total = self.settings.max_steps or self.settings.epochs * per_epoch
        return per_epoch, total, min(self.settings.eval_every or per_epoch, total)
