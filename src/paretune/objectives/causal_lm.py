"""Causal language modelling: a completion of an instruction or of a conversation.

Loss: cross-entropy of the completion's tokens given the prompt and those before, summed over them
and divided by their number; the prompt is read and not learnt (TRL's ``completion_only_loss``). An
end-of-text token closes a plain completion; a conversation is written by the tokenizer's chat
template, and its last answer is the completion. While training, the loss selects; answers are
generated once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paretune.objectives.completions import (
    PromptedText,
    completion_lengths,
    encode_completions,
    end_text,
    render_chat,
)
from paretune.objectives.encoding import Encoded
from paretune.objectives.likelihood import text_likelihood
from paretune.objectives.objective import Objective
from paretune.objectives.seq2seq_lm import (
    MAX_SELECTION_EXAMPLES,
    TokenLossCollector,
    count_target,
    predict_texts,
    target_of,
    token_loss,
)
from paretune.objectives.sequence_classification import NO_QUESTION

if TYPE_CHECKING:
    from paretune.data.example import Example

_NO_COLUMNS = "an instruction has a prompt (text) and a completion (label) alone"


def encode(
    examples: Sequence[Example], tokenizer: Any, max_length: int, prefix: str = ""
) -> Encoded:
    """Prompt, completion and end of each example.

    Raises:
        ModelError: the tokenizer has no end-of-text token, or no chat template for conversations.
        DataError: the chat template refuses a conversation.
    """
    texts = _write(examples, tokenizer, prefix)
    return encode_completions(texts, [e.label for e in examples], tokenizer, max_length)


def _count(examples: Sequence[Example], tokenizer: Any, prefix: str) -> dict[str, list[int]]:
    return {"rows": completion_lengths(_write(examples, tokenizer, prefix), tokenizer)}


def _write(
    examples: Sequence[Example], tokenizer: Any, prefix: str
) -> list[tuple[PromptedText, ...]]:
    return [(_write_example(example, tokenizer, prefix),) for example in examples]


def _write_example(example: Example, tokenizer: Any, prefix: str) -> PromptedText:
    if example.messages:
        return render_chat(example, tokenizer)
    prompt = prefix + example.segments[0][0]
    return PromptedText(prompt, prompt + end_text(example.target or "", tokenizer))


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
    encode=encode,
    text_lengths=_count,
    weight=count_target,
    loss=token_loss,
    collector=TokenLossCollector,
    predict=predict_texts,
    reference=target_of,
    likelihood=text_likelihood,
    peft_task_type="CAUSAL_LM",
    usage="generation",
)
