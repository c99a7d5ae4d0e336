"""Token ids of prompts and their completions, for models that continue a text.

Prompt and whole text are tokenised each for itself, and the completion starts where the two begin
to differ, as in TRL's SFTTrainer and, where no token crosses the border, in lm-evaluation-harness.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
    masks: Sequence[Sequence[Sequence[bool]] | None] | None = None,
) -> Encoded:
    """Encode each choice of each example; :attr:`Encoded.completion_starts` says what is scored.

    What is longer than ``max_length`` loses the beginning of its prompt, behind a first special
    token, down to half of ``max_length``; then the completion loses its end.

    Shapes: ``rows`` (examples, choices), ``labels`` (examples,).

    Args:
        masks: which tokens of whole texts are scored, (examples, choices, tokens), in place of all
            that follow the prompt; None for an example without.
    """
    flat = [text for choices in rows for text in choices]
    tokens = iter(_tokenise(flat, tokenizer))
    grouped, unscored = [], []
    for row, choices in enumerate(rows):
        row_masks = None if masks is None else masks[row]
        pieces, left_out = [], []
        for choice in range(len(choices)):
            whole, prompt = next(tokens)
            mask = [] if row_masks is None else row_masks[choice]
            first = mask.index(True) if mask else 0
            piece = _cut(whole, whole[:first] if mask else prompt, tokenizer, max_length)
            shift = piece[1] - first
            places = [place + shift for place in range(first, len(mask)) if not mask[place]]
            pieces.append(piece)
            left_out.append([place for place in places if place < len(piece[0])])
        grouped.append(pieces)
        unscored.append(left_out)
    return Encoded(
        ids=[[ids for ids, _, _ in choices] for choices in grouped],
        type_ids=None,
        lengths=[max(len(ids) for ids, _, _ in choices) for choices in grouped],
        labels=list(labels),
        truncated=[any(cut for _, _, cut in choices) for choices in grouped],
        completion_starts=[[start for _, start, _ in choices] for choices in grouped],
        unscored=None if masks is None else unscored,
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


_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def mask_answers(example: Example, text: PromptedText, tokenizer: Any) -> list[bool]:
    """Which tokens of a conversation are those of an answer, (tokens,).

    As the chat template marks them (``{% generation %}``), as in TRL's ``assistant_only_loss``;
    where it marks nothing, each answer with what the template writes behind it.

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
        spans = list(_answer_spans(turns, text.whole, tokenizer, example.where))
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


def _answer_spans(
    turns: Sequence[dict[str, str]], whole: str, tokenizer: Any, where: str
) -> Iterator[tuple[int, int]]:
    """Where each answer begins and ends in the text of the conversation, in characters."""
    for place, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        begin = ""
        if place:
            begin = tokenizer.apply_chat_template(
                turns[:place], tokenize=False, add_generation_prompt=True
            )
        end = tokenizer.apply_chat_template(turns[: place + 1], tokenize=False)
        if not whole.startswith(begin) or not whole.startswith(end):
            raise DataError(
                "the model's chat template writes an earlier answer of this conversation otherwise "
                "than its last one.",
                where=where,
                remedy="Remove loss_on, so that the last answer is learnt, or mark answers in the "
                "template with {% generation %}.",
            )
        yield len(begin), len(end)


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
