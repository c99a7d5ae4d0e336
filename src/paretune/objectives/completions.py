"""Token ids of prompts and their completions, for models that continue a text.

Prompt and whole text are tokenised each for itself, and the completion starts where the two begin
to differ, as in TRL's SFTTrainer and, where no token crosses the border, in lm-evaluation-harness.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from paretune.answers import Label
from paretune.errors import DataError, ModelError, first_line
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example


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
    texts: Sequence[PromptedText],
    labels: Sequence[Label | None],
    tokenizer: Any,
    max_length: int,
    masks: Sequence[Sequence[bool]] | None = None,
    choices: int = 1,
) -> Encoded:
    """Encode the text of each example; :attr:`Encoded.completion_starts` says what is scored.

    A text that is longer than ``max_length`` loses the beginning of its prompt, behind a first
    special token, down to half of ``max_length``; then the completion loses its end.

    Shapes: ``texts`` (examples * choices,), ``labels`` (examples,).

    Args:
        masks: which tokens of whole texts are scored, (examples, tokens), in place of all that
            follow the prompt; empty for an example without.
        choices: texts of an example, one after another.
    """
    pieces, unscored = [], []
    for row, (whole, prompt) in enumerate(_tokenise(texts, tokenizer)):
        mask = masks[row] if masks else ()
        first = mask.index(True) if mask else 0
        ids, start, cut = _cut(whole, whole[:first] if mask else prompt, tokenizer, max_length)
        shift = start - first
        places = (place + shift for place in range(first, len(mask)) if not mask[place])
        pieces.append((ids, start, cut))
        unscored.append([[place for place in places if place < len(ids)]])
    groups = [pieces[first : first + choices] for first in range(0, len(pieces), choices)]
    return Encoded(
        ids=[[ids for ids, _, _ in group] for group in groups],
        type_ids=None,
        lengths=[max(len(ids) for ids, _, _ in group) for group in groups],
        labels=list(labels),
        truncated=[any(cut for _, _, cut in group) for group in groups],
        completion_starts=[[start for _, start, _ in group] for group in groups],
        unscored=None if masks is None else unscored,
    )


def completion_lengths(texts: Sequence[PromptedText], tokenizer: Any) -> list[int]:
    """Tokens of each example's text, prompt included, before any cut."""
    return [len(ids) for ids, _ in _tokenise(texts, tokenizer)]


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


_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def mask_answers(example: Example, text: PromptedText, tokenizer: Any) -> list[bool]:
    """Mark the tokens of a conversation's answers, (tokens,).

    They are those that the chat template marks (``{% generation %}``), as in TRL's
    ``assistant_only_loss``; where it marks nothing, each answer and the template's text behind it.

    Raises:
        DataError: the template writes an answer otherwise once more follows it, or marks none.
    """
    turns = [{"role": role, "content": content} for role, content in example.messages]
    turns.append({"role": "assistant", "content": example.target or ""})
    if _MARKS_ANSWERS.search(tokenizer.chat_template):
        marked = tokenizer.apply_chat_template(
            turns, return_dict=True, return_assistant_tokens_mask=True
        )
        mask = [bool(marked_token) for marked_token in marked["assistant_masks"]]
    else:
        encoded = tokenizer(
            text.whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        spans = []
        for place, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            write = partial(tokenizer.apply_chat_template, tokenize=False)
            begin = write(turns[:place], add_generation_prompt=True) if place else ""
            end = write(turns[: place + 1])
            if not text.whole.startswith(begin) or not text.whole.startswith(end):
                raise DataError(
                    "the model's chat template writes an earlier answer of this conversation "
                    "otherwise than its last one.",
                    where=example.where,
                    remedy="Remove loss_on, so that the last answer is learnt, or mark answers in "
                    "the template with {% generation %}.",
                )
            spans.append((len(begin), len(end)))
        mask = [
            any(start < end_of and end > begin for begin, end_of in spans)
            for start, end in encoded["offset_mapping"]
        ]
    if not any(mask):
        raise DataError(
            "the model's chat template marks no answer in this conversation.",
            where=example.where,
            remedy="Remove loss_on, so that the last answer is learnt.",
        )
    return mask


def _tokenise(texts: Sequence[PromptedText], tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Ids of each whole text and of its prompt."""
    pairs: list[tuple[list[int], list[int]]] = [([], [])] * len(texts)
    for special in (True, False):
        places = [i for i, text in enumerate(texts) if text.special_tokens is special]
        if not places:
            continue
        flat = [texts[i].whole for i in places] + [texts[i].prompt for i in places]
        ids = tokenizer(flat, add_special_tokens=special, verbose=False)["input_ids"]
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
