"""Text: the model writes its answer behind the prompt.

Training minimises the cross-entropy of the answer's tokens, the end-of-text token included, summed
over them and divided by their number; while training, that loss selects. Texts are generated once,
at the end. In tasks with labels or choices the text is read: its first words that are an answer's
text are the prediction, whatever stands around them; where there are none the prediction is
:data:`~paretune.metrics.classification.NO_LABEL`, which is never right. The likelihood of each
label's text (:mod:`~paretune.objectives.readouts.label_words`) is computed once beside it.

A text that is too long loses the beginning of its prompt
(:func:`~paretune.objectives.completions.encode_completions`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from paretune.errors import StudyError
from paretune.metrics.classification import NO_LABEL
from paretune.objectives.completions import (
    PromptedText,
    completion_lengths,
    encode_completions,
    end_text,
    mask_answers,
    render_chat,
)
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.language_modelling import TokenLossCollector, count_target, token_loss
from paretune.objectives.objective import ModelPredictions, Objective, TargetScale
from paretune.objectives.prompt import Prompt
from paretune.objectives.readouts.label_words import read_label_words

_EDGES = re.compile(r"^\W+|\W+$")


def read_text(objective: Objective, prompt: Prompt) -> Objective:
    """The objective, answered by a text that is generated."""
    changes: dict[str, Any] = {}
    if objective.predicts_labels:
        # Probabilities of texts are no shares of labels; those of the labels' own texts are.
        scores = read_label_words(objective, prompt)
        changes = {"predict": PredictLabels(prompt), "answer_scores": scores}
    if prompt.learns_every_answer:
        changes["encode_training"] = EncodeText(prompt, every_answer=True)
    return replace(
        objective,
        head="causal_lm",
        generates=True,
        loss_settings=("label_smoothing",),
        encode=EncodeText(prompt),
        weight=count_target,
        loss=token_loss,
        collector=TokenLossCollector,
        **changes,
    )


@dataclass(frozen=True)
class EncodeText:
    """Tokenises the prompt of each example with its right answer.

    Args:
        every_answer: of a conversation, all answers are scored, not only the last one.
    """

    prompt: Prompt
    every_answer: bool = False

    def __call__(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, prefix: str = ""
    ) -> Encoded:
        """One text an example; see :class:`~paretune.objectives.objective.Encode`.

        Raises:
            ModelError: the tokenizer has no end-of-text token, or no chat template.
            DataError: the chat template refuses a conversation.
            StudyError: solved examples are asked for before a conversation.
        """

        def write(place: int, shots: int) -> PromptedText:
            prompt = self.prompt.last_shots(shots)
            return write_example(examples[place], prompt, tokenizer, prefix)

        def measure(places: Sequence[int], shots: Sequence[int]) -> list[int]:
            return completion_lengths([*map(write, places, shots)], tokenizer)

        shots = [len(self.prompt.shots)] * len(examples)
        limit = self.prompt.max_shot_tokens if self.prompt.shots else None
        if limit is not None:
            shots = self.prompt.fit_shots(len(examples), measure)
        texts = [write(place, count) for place, count in enumerate(shots)]
        labels = [example.label for example in examples]
        masks = None
        if self.every_answer:
            masks = [
                mask_answers(example, text, tokenizer) if example.messages else []
                for example, text in zip(examples, texts, strict=True)
            ]
        return encode_completions(texts, labels, tokenizer, limit or max_length, masks)


@dataclass(frozen=True)
class PredictLabels:
    """Reads the label or choice that each generated text names."""

    prompt: Prompt

    def __call__(
        self,
        outputs: Sequence[str],
        examples: Sequence[Example],
        target_scale: TargetScale | None,
        /,
    ) -> ModelPredictions:
        """An index for each text, or :data:`NO_LABEL`."""
        pairs = zip(outputs, examples, strict=True)
        indices = [find_answer(text, self.prompt.answers(example)) for text, example in pairs]
        return ModelPredictions([*indices], [[] for _ in outputs], None)


def find_answer(text: str, answers: Sequence[str]) -> int:
    """The answer whose words come first in a text, the longest of those at one place.

    Case, and punctuation around an answer, do not matter ("Da." is "da"); an answer inside a longer
    word is none. :data:`NO_LABEL` where no answer is found.
    """
    folded = _fold(text)
    best = (len(folded), 0, NO_LABEL)
    for index, answer in enumerate(answers):
        words = _EDGES.sub("", _fold(answer)) or _fold(answer)
        match = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", folded) if words else None
        if match is not None:
            best = min(best, (match.start(), -len(words), index))
    return best[2]


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def write_example(example: Example, prompt: Prompt, tokenizer: Any, prefix: str) -> PromptedText:
    """The prompt of an example with its right answer, by the chat template for a conversation."""
    if example.messages:
        if prompt.shots:
            raise StudyError(
                "solved examples cannot stand before a conversation.",
                where=example.where,
                remedy="Remove few_shot, or write prompt and completion as texts.",
            )
        return render_chat(example, tokenizer)
    text, pair = example.segments[0]
    context = prompt.render(text, None if len(example.segments) > 1 else pair)
    before = prompt.join_shots() + prefix + context
    answer = prompt.delimiter + prompt.solution(example)
    return PromptedText(before, before + end_text(answer, tokenizer))
