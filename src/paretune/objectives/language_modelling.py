"""Language modelling: a text in another language, or one that completes an instruction, or which
of two answers is better (``preference``), or whether an answer is good (``unpaired_preference``).

Loss: cross-entropy of the target's tokens given the source, or of the completion's given the prompt
and those before (the prompt is read and not learnt: TRL's ``completion_only_loss``), summed over
the tokens and divided by their number. While training, the loss selects; texts are generated once,
at the end.

A completion is closed by an end-of-text token; a conversation is written by the tokenizer's chat
template, and its last answer is the completion. There is no head to train, so models answer by text
alone: :mod:`paretune.objectives.readouts.text` has encoding, loss and what else that asks for;
:mod:`paretune.objectives.readouts.rewards` has what preferences ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paretune.objectives.classification import NO_QUESTION
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.objective import (
    LossOptions,
    ModelPredictions,
    Objective,
    Scores,
    TargetScale,
)
from paretune.objectives.token_outputs import TokenOutputs

if TYPE_CHECKING:
    from torch import Tensor


def count_target(data: Encoded, indices: Sequence[int]) -> int:
    """Target tokens of the examples, or tokens of their completions."""
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


def predict_preferences(
    scores: Scores, examples: Sequence[Example], target_scale: TargetScale | None
) -> ModelPredictions:
    """How much the last answer counts above the first, or above 0; from (examples, answers).

    The loss is the cross-entropy of labels with these logits (Bradley and Terry 1952).
    """
    logits = scores.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    rewards = logits[:, 1] - logits[:, 0]
    signs = np.where([example.label == 1 for example in examples], 1, -1)
    loss = float(np.logaddexp(0, -signs * rewards).mean())
    return ModelPredictions(rewards.tolist(), logits.tolist(), loss)


TRANSLATION = Objective(
    name="translation",
    title="a text in another language",
    required=(),
    excluded={"question": NO_QUESTION},
    reader="parallel",
    head="seq2seq_lm",
    readouts=("text",),
    baselines=("copy_source",),
    default_metric="bleu",
    recorded_metrics=("bleu", "chrf", "ter"),
    generates=True,
    loss_settings=("label_smoothing",),
    weight=count_target,
    loss=token_loss,
    collector=TokenLossCollector,
    predict=lambda texts, examples, scale: ModelPredictions([*texts], [[] for _ in texts], None),
)
_NO_COLUMNS = "an instruction has a prompt (text) and a completion (label) alone"
INSTRUCTION = replace(
    TRANSLATION,
    name="instruction",
    title="a text that answers an instruction",
    excluded={
        "question": NO_QUESTION,
        **dict.fromkeys(("text_pair", "choices", "features", "labels"), _NO_COLUMNS),
    },
    reader="instructions",
    head="causal_lm",
    baselines=("copy_source", "frequent_text", "nearest_text"),
    default_metric="chrf",
    recorded_metrics=("exact_match", "token_f1", "chrf"),
)
_TRL_COLUMNS = "its columns are those of TRL: prompt, chosen and rejected, or completion and label"
PREFERENCE = replace(
    INSTRUCTION,
    name="preference",
    title="which of two answers is better",
    excluded=dict.fromkeys((*INSTRUCTION.excluded, "text", "label"), _TRL_COLUMNS),
    reader="preference",
    readouts=("reward", "likelihood"),
    baselines=("tfidf",),
    default_metric="reward_accuracy",
    recorded_metrics=("reward_accuracy", "reward_margin"),
    generates=False,
    loss_settings=("label_smoothing", "preference_beta"),
    predict=predict_preferences,
)
PREFERENCES = (
    PREFERENCE,
    replace(
        PREFERENCE,
        name="unpaired_preference",
        title="whether an answer is good",
        reader="unpaired_preference",
        loss_settings=("class_weights", "preference_beta"),
    ),
)
