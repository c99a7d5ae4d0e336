"""Token ids of prompts and their completions, for models that continue a text.

Prompt and whole text are tokenised each for itself, and the completion starts where the two begin
to differ, as in TRL's SFTTrainer and, where no token crosses the border, in lm-evaluation-harness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paretune.errors import DataError, ModelError, first_line
from paretune.objectives.encoding import Encoded

if TYPE_CHECKING:
    from paretune.data.example import Example
    from paretune.study import Label


@dataclass(frozen=True)
class PromptedText:
    """A prompt, and the text that begins with it and ends with the completion.

    Attributes:
        special_tokens: whether the tokenizer adds its own, such as a token at the beginning; a chat
            template has written them already.
    """

    prompt: str
    whole: str
    special_tokens: bool = True


def encode_completions(
    rows: Sequence[Sequence[PromptedText]],
    labels: Sequence[Label | None],
    tokenizer: Any,
    max_length: int,
) -> Encoded:
    """Encode each choice of each example; :attr:`Encoded.completion_starts` says what is scored.

    What is longer than ``max_length`` loses the beginning of its prompt, behind a first special
    token, down to half of ``max_length``; then the completion loses its end.

    Shapes: ``rows`` (examples, choices), ``labels`` (examples,).
    """
    flat = [text for choices in rows for text in choices]
    pieces = [_cut(*pair, tokenizer, max_length) for pair in _tokenise(flat, tokenizer)]
    remaining = iter(pieces)
    grouped = [[next(remaining) for _ in choices] for choices in rows]
    return Encoded(
        ids=[[ids for ids, _, _ in choices] for choices in grouped],
        type_ids=None,
        lengths=[max(len(ids) for ids, _, _ in choices) for choices in grouped],
        labels=list(labels),
        truncated=[any(cut for _, _, cut in choices) for choices in grouped],
        completion_starts=[[start for _, start, _ in choices] for choices in grouped],
    )


def completion_lengths(rows: Sequence[Sequence[PromptedText]], tokenizer: Any) -> list[int]:
    """Tokens of each example's longest text, prompt included, before any cut."""
    flat = [text for choices in rows for text in choices]
    sizes = iter([len(ids) for ids, _ in _tokenise(flat, tokenizer)])
    return [max(next(sizes) for _ in choices) for choices in rows]


def end_text(completion: str, tokenizer: Any) -> str:
    """A completion with the end-of-text token, unless it has one; generation stops at it.

    Raises:
        ModelError: the tokenizer has no such token.
    """
    end: str | None = tokenizer.eos_token
    if end is None:
        raise ModelError(
            "its tokenizer has no end-of-text token, so that no answer would end.",
            where=f"model {tokenizer.name_or_path}",
            remedy='Name one in tokenizer_config.json ("eos_token").',
        )
    return completion if completion.endswith(end) else completion + end


def render_chat(example: Example, tokenizer: Any) -> PromptedText:
    """A conversation and its last answer by the tokenizer's chat template.

    Raises:
        ModelError: the tokenizer has no chat template.
        DataError: the template refuses the conversation (some take no system message).
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ModelError(
            "its tokenizer has no chat template, so conversations cannot be written for it.",
            where=f"model {tokenizer.name_or_path}",
            remedy="Take a model that was tuned for conversations (-Instruct, -it), write prompt "
            "and completion as texts, or give the task prompt: '{text}' with what stands around.",
        )
    before = [{"role": role, "content": content} for role, content in example.messages]
    answer = {"role": "assistant", "content": example.target or ""}
    try:
        prompt = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template([*before, answer], tokenize=False)
    except TemplateError as error:
        raise DataError(
            f"the model's chat template refuses this conversation ({first_line(error)}).",
            where=example.where,
            remedy="Write the conversations as the template wants them: see the model's card.",
        ) from None
    return PromptedText(prompt, whole, special_tokens=False)


def _tokenise(texts: Sequence[PromptedText], tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Ids of each whole text and of its prompt."""
    pairs: list[tuple[list[int], list[int]]] = [([], [])] * len(texts)
    for special in (True, False):
        places = [i for i, text in enumerate(texts) if text.special_tokens is special]
        if not places:
            continue
        both = [texts[i].whole for i in places] + [texts[i].prompt for i in places]
        ids = tokenizer(both, add_special_tokens=special, verbose=False)["input_ids"]
        for place, whole, prompt in zip(
            places, ids[: len(places)], ids[len(places) :], strict=True
        ):
            pairs[place] = (list(whole), list(prompt))
    return pairs


def _cut(
    whole: list[int], prompt: list[int], tokenizer: Any, max_length: int
) -> tuple[list[int], int, bool]:
    """The ids that fit, where the completion starts, and whether anything was cut."""
    start = 0
    while start < min(len(prompt), len(whole) - 1) and prompt[start] == whole[start]:
        start += 1
    first = tokenizer.bos_token_id
    if start == 0:  # a token before the completion predicts its first one, as in lm-eval
        whole, start = [tokenizer.eos_token_id if first is None else first, *whole], 1
    if len(whole) <= max_length:
        return whole, start, False
    prompt_tokens = min(start, max(max_length - (len(whole) - start), max_length // 2))
    head = whole[:1] if prompt_tokens < start and whole[0] == first else []
    tail = whole[start - prompt_tokens + len(head) : start]
    completion = whole[start:][: max_length - prompt_tokens]
    return [*head, *tail, *completion], prompt_tokens, True
