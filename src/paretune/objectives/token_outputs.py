"""Outputs of a language model's forward pass: enough for the loss of targets or completions.

:class:`TokenLogits` and :class:`TokenStates` answer alike for the scored tokens of texts: those of
their targets or of their completions. ``texts`` says whose tokens they are, in the order of the
tokens; losses and log-probabilities are in nats. ``evaluation_losses`` has no smoothing and no
gradient: the sum, and the loss of each token, (tokens,). ``alternative_log_probabilities``: how
likely other tokens are in place of each scored one; both (tokens, alternatives).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from paretune.objectives.encoding import IGNORE_INDEX, Text

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenLogits:
    """Logits of a padded batch.

    Shapes: ``logits`` (batch, target tokens, vocabulary), ``labels`` (batch, target tokens), padded
    with -100.
    """

    logits: Tensor
    labels: Tensor
    texts: Sequence[Text]

    def summed_loss(self, label_smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Cross-entropy summed over the scored tokens, not padding; ``weights`` (tokens,)."""
        import torch.nn.functional as F

        labels = self.labels.flatten()
        losses = F.cross_entropy(
            _at_least_fp32(self.logits.flatten(0, 1)),
            labels,
            ignore_index=IGNORE_INDEX,
            reduction="sum" if weights is None else "none",
            label_smoothing=label_smoothing,
        )
        return losses if weights is None else (losses[labels != IGNORE_INDEX] * weights).sum()

    def evaluation_losses(self) -> tuple[Tensor, Tensor]:
        """The sum and each token's, in the order of the batch."""
        import torch.nn.functional as F

        labels = self.labels.flatten()
        log_probabilities = F.log_softmax(_at_least_fp32(self.logits.flatten(0, 1)), dim=-1)
        total = F.nll_loss(log_probabilities, labels, ignore_index=IGNORE_INDEX, reduction="sum")
        real = labels != IGNORE_INDEX
        return total, F.nll_loss(log_probabilities[real], labels[real], reduction="none")

    def alternative_log_probabilities(self, alternatives: Sequence[Sequence[int]]) -> Tensor:
        """Log-probabilities of other tokens, (tokens, alternatives), in the order of the batch."""
        return _gather(self.logits[self.labels != IGNORE_INDEX], alternatives)


def _at_least_fp32(logits: Tensor) -> Tensor:
    return logits if logits.itemsize > 4 else logits.float()


@dataclass(frozen=True)
class TokenStates:
    """Last hidden states and the LM head, where logits of all tokens are never held at once.

    Shapes: ``hidden`` (tokens, width), ``weight`` (vocabulary, width), ``bias`` (vocabulary,) or
    None, ``labels`` (tokens,). ``softcap``: logits z are softcap * tanh(z / softcap) (Gemma 2).
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    labels: Tensor
    texts: Sequence[Text]
    softcap: float | None = None

    def summed_loss(self, label_smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Cross-entropy summed over the tokens; ``weights`` (tokens,)."""
        from paretune.objectives.chunked_cross_entropy import chunked_cross_entropy

        states = (self.hidden, self.weight, self.bias, self.labels)
        return chunked_cross_entropy(*states, label_smoothing, self.softcap, weights)[0]

    def evaluation_losses(self) -> tuple[Tensor, Tensor]:
        """The sum and each token's, in the order of the rows."""
        from paretune.objectives.chunked_cross_entropy import chunked_cross_entropy

        states = (self.hidden, self.weight, self.bias, self.labels)
        return chunked_cross_entropy(*states, 0.0, self.softcap)

    def alternative_log_probabilities(self, alternatives: Sequence[Sequence[int]]) -> Tensor:
        """Log-probabilities of other tokens, (tokens, alternatives), in the order of the rows."""
        import torch
        import torch.nn.functional as F

        from paretune.objectives.chunked_cross_entropy import chunk_tokens

        size = chunk_tokens(len(self.weight), self.hidden.device.type)
        gathered = []
        for start in range(0, len(self.hidden), size):
            chunk = slice(start, start + size)
            logits = F.linear(self.hidden[chunk], self.weight, self.bias)
            if self.softcap is not None:
                logits = (logits.float() / self.softcap).tanh() * self.softcap
            gathered.append(_gather(logits, alternatives[chunk]))
        return torch.cat(gathered)


TokenOutputs: TypeAlias = TokenLogits | TokenStates
"""Outputs for scored tokens."""


def _gather(logits: Tensor, alternatives: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities of some words, (tokens, words), from (tokens, vocabulary)."""
    import torch
    import torch.nn.functional as F

    from paretune.device_transfer import to_device

    places = to_device(torch.tensor([list(tokens) for tokens in alternatives]), logits.device)
    return F.log_softmax(logits.float(), dim=-1).gather(-1, places)
