"""Sequence-to-sequence language modelling: translation of a source into a target text.

Loss: cross-entropy of the target tokens with teacher forcing, summed over the tokens and divided by
their number. While training, the loss selects; translations are generated once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paretune.objectives.encoding import (
    Encoded,
    count_target_tokens,
    count_tokens,
)
from paretune.objectives.likelihood import text_likelihood
from paretune.objectives.objective import Objective
from paretune.objectives.sequence_classification import NO_QUESTION
from paretune.objectives.token_outputs import TokenOutputs
from paretune.objectives.values import LossOptions, ModelPredictions, TargetScale

if TYPE_CHECKING:
    from torch import Tensor

    from paretune.data.example import Example
    from paretune.study import Answer

LABEL_SMOOTHING = 0.1
"""Vaswani et al. 2017, arXiv:1706.03762, section 5.4."""
MAX_SELECTION_EXAMPLES = 500
"""Selection reads them at every evaluation, and they are generated at the end."""


def count_target(data: Encoded, indices: Sequence[int]) -> int:
    """Target tokens of the examples, or tokens of their completions."""
    if data.completion_starts is None:
        data.require_targets()
    return sum(data.scored_length((i, 0)) for i in indices)


def token_loss(
    outputs: TokenOutputs, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Cross-entropy summed over the scored tokens, in nats."""
    return outputs.summed_loss(options.label_smoothing)


@dataclass(frozen=True)
class TokenLosses:
    """Cross-entropy of target tokens without smoothing, in nats.

    Attributes:
        tokens: (examples, target tokens), ragged.
    """

    mean: float
    tokens: list[NDArray[np.float32]]


class TokenLossCollector:
    """Gathers the losses of target tokens."""

    def __init__(self, data: Encoded) -> None:
        self._data, self._total = data, 0.0
        self._tokens = [np.empty(0, np.float32)] * len(data.lengths)

    def add(self, indices: Sequence[int], outputs: TokenOutputs) -> None:
        """Take the outputs for the target tokens of some examples."""
        total, each = outputs.evaluation_losses()
        self._total += float(total)
        ends = np.cumsum([self._data.scored_length(text) for text in outputs.texts])
        pieces = np.split(each.float().cpu().numpy(), ends[:-1])
        for (index, _), piece in zip(outputs.texts, pieces, strict=True):
            self._tokens[index] = piece

    def result(self) -> TokenLosses:
        """Losses of all examples, in their order."""
        count = count_target(self._data, range(len(self._data.lengths)))
        return TokenLosses(self._total / count, self._tokens)


def predict_texts(
    outputs: Sequence[str], examples: Sequence[Example], target_scale: TargetScale | None
) -> ModelPredictions:
    """The generated texts, (examples,), as they are."""
    return ModelPredictions([*outputs], [[] for _ in outputs], None)


def _count_both(examples: Sequence[Example], tokenizer: Any, prefix: str) -> dict[str, list[int]]:
    return {
        "sources": count_tokens(examples, tokenizer, prefix),
        "references": count_target_tokens(examples, tokenizer),
    }


def target_of(example: Example) -> Answer | None:
    """The reference of an example; None where it has none."""
    return example.target


def _describe(labels: Sequence[str], languages: Sequence[str]) -> str:
    return " to ".join(languages)


OBJECTIVE = Objective(
    name="translation",
    title="a text in another language",
    required=(),
    excluded={"question": NO_QUESTION},
    between_languages=True,
    reader="parallel",
    checks=("parallel",),
    describe=_describe,
    max_selection_examples=MAX_SELECTION_EXAMPLES,
    head="seq2seq_lm",
    readouts=("text",),
    problem_type=None,
    draws_head=False,
    num_logits=lambda labels: 0,
    baselines=("copy_source",),
    tabular_baselines=(),
    probe="untuned",
    target_types=("text",),
    default_metric="bleu",
    recorded_metrics=("bleu", "chrf", "ter"),
    generates=True,
    label_smoothing=LABEL_SMOOTHING,
    text_lengths=_count_both,
    weight=count_target,
    loss=token_loss,
    collector=TokenLossCollector,
    predict=predict_texts,
    reference=target_of,
    likelihood=text_likelihood,
    peft_task_type="SEQ_2_SEQ_LM",
    usage="generation",
)
