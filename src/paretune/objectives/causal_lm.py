"""Causal language modelling: a completion of an instruction or of a conversation.

Loss: cross-entropy of the completion's tokens given the prompt and those before, summed over them
and divided by their number; the prompt is read and not learnt (TRL's ``completion_only_loss``). An
end-of-text token closes a plain completion; a conversation is written by the tokenizer's chat
template, and its last answer is the completion. While training, the loss selects; answers are
generated once, at the end.

There is no head to train, so models answer by text alone: :mod:`paretune.objectives.readouts.text`
has encoding, loss and what else a generated text asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

from paretune.objectives.likelihood import text_likelihood
from paretune.objectives.objective import Objective
from paretune.objectives.seq2seq_lm import (
    MAX_SELECTION_EXAMPLES,
    predict_texts,
    target_of,
    token_loss,
)
from paretune.objectives.sequence_classification import NO_QUESTION

_NO_COLUMNS = "an instruction has a prompt (text) and a completion (label) alone"


def _describe(labels: Sequence[str], languages: Sequence[str]) -> str:
    return "a completion"


OBJECTIVE = Objective(
    name="instruction",
    title="a text that answers an instruction",
    required=(),
    excluded={
        "question": NO_QUESTION,
        **dict.fromkeys(("text_pair", "choices", "features", "labels"), _NO_COLUMNS),
    },
    reader="instructions",
    checks=("instructions",),
    describe=_describe,
    max_selection_examples=MAX_SELECTION_EXAMPLES,
    head="causal_lm",
    readouts=("text",),
    problem_type=None,
    draws_head=False,
    num_logits=lambda labels: 0,
    baselines=("copy_source", "frequent_text", "nearest_text"),
    tabular_baselines=(),
    probe="untuned",
    target_types=("text", "answer"),
    default_metric="chrf",
    recorded_metrics=("exact_match", "token_f1", "chrf"),
    generates=True,
    loss=token_loss,
    predict=predict_texts,
    reference=target_of,
    likelihood=text_likelihood,
    peft_task_type="CAUSAL_LM",
    usage="generation",
)
