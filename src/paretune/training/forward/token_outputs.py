"""Scores of target tokens, as forward paths of sequence-to-sequence models give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from paretune.objectives.losses.chunked_cross_entropy import chunked_cross_entropy
from paretune.training.objective import sum_token_losses


class TokenOutputs(Protocol):
    """Scores of every word for each target token."""

    def summed_loss(self, label_smoothing: float) -> Tensor:
        """Cross-entropy in nats, summed over the tokens."""


@dataclass(frozen=True)
class TokenLogits:
    """Logits (tokens, vocabulary) and the target tokens (tokens,), padded with -100."""

    logits: Tensor
    tokens: Tensor

    def summed_loss(self, label_smoothing: float) -> Tensor:
        """Cross-entropy in nats, summed over the tokens."""
        return sum_token_losses(self.logits, self.tokens, label_smoothing)


@dataclass(frozen=True)
class TokenStates:
    """Last hidden states, which the LM head makes logits of a chunk at a time.

    Shapes: ``hidden`` (tokens, width), ``weight`` (vocabulary, width), ``bias`` (vocabulary,),
    ``tokens`` (tokens,) without padding.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    tokens: Tensor

    def summed_loss(self, label_smoothing: float) -> Tensor:
        """Cross-entropy in nats, summed over the tokens."""
        return chunked_cross_entropy(
            self.hidden, self.weight, self.bias, self.tokens, label_smoothing
        )
