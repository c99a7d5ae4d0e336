"""The settings of a pass through the model, beside its batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from paretune.models.dropout import DropoutRng, seeded_dropout
from paretune.models.packing.layout import Packing


@dataclass
class PassContext:
    """Settings that the passes of a run share. The loop sets them, and a method may read them.

    Attributes:
        step_seed: the seed of what a method draws once in a training step.
        packing: how batches are packed; None: they are padded.
        dropout_rng: the source of dropout; None for torch's own generator.
    """

    step_seed: int = 0
    packing: Packing | None = None
    dropout_rng: DropoutRng | None = None

    def stop_packing(self) -> None:
        """Let batches be padded from now on, and dropout be torch's own."""
        self.packing = None
        self.dropout_rng = None

    def seed_dropout(self, seed: int) -> None:
        """Seed the dropout of the next pass."""
        rng = self.dropout_rng if self.packing is None else self.packing.dropout_rng
        if rng is not None:
            rng.begin_pass(seed)
        torch.manual_seed(seed)  # what models and tuners of peft draw themselves

    def dropout_context(self) -> AbstractContextManager[Any]:
        """The context for a forward and backward pass in training."""
        return nullcontext() if self.dropout_rng is None else seeded_dropout(self.dropout_rng)
