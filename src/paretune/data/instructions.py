"""Rows of instruction data: a prompt, or a conversation, and the completion that a model learns.

Four forms, told apart by their columns: ``prompt`` and ``completion`` (texts, or lists of messages)
and ``messages`` of TRL, ``conversations`` of ShareGPT, ``instruction``, ``input`` and ``output`` of
Alpaca (Taori et al. 2023). A row of Alpaca's is read as LLaMA-Factory reads it: instruction and
input, a line each, are the user's message, with the pairs of ``history`` before and ``system``
first. The completion is the last assistant message; everything before it is the prompt.

Preferences are as in TRL: ``prompt``, ``chosen`` and ``rejected``, or ``prompt``, ``completion``
and ``label``; texts or lists of messages. If there is no prompt, or it is a text beside
conversations, the common beginning of chosen and rejected is the prompt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paretune.data.columns import Values, cell_text
from paretune.data.example import normalise_text
from paretune.data.finding import InvalidValueError
from paretune.objectives.example import Message

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Roles of TRL and ShareGPT, as chat templates know them."""

_RATINGS = {"true": 1, "1": 1, "false": 0, "0": 0}

Instruction = dict[str, Any]
"""Fields of an example: a prompt as text, the completion, and the prompt as messages if it is a
conversation."""


@dataclass(frozen=True)
class Form:
    """One form: the columns that a row must have, how it is read, and what else may be there."""

    title: str
    columns: tuple[str, ...]
    read: Callable[[Values], Instruction]
    optional: tuple[str, ...] = ()


def find_form(columns: Collection[str]) -> Form | None:
    """The first form all of whose columns are there; None: it is none of them."""
    return next((form for form in FORMS if set(form.columns) <= set(columns)), None)


def named_form(prompt: str, completion: str) -> Form:
    """Prompt and completion in columns of these names."""
    return Form(
        "named", (prompt, completion), lambda v: _read_pair(v.get(prompt), v.get(completion))
    )


def _read_pair(prompt: object, completion: object, column: str = "completion") -> Instruction:
    if isinstance(prompt, list) and isinstance(completion, list):
        return _split_conversation([*_read_turns(prompt), *_read_turns(completion)])
    text = _require_text(prompt, "prompt")
    return {
        "segments": ((text, None),),
        "target": _require_text(completion, column),
        "messages": (),
    }


def _read_preference(values: Values) -> Instruction:
    """Both answers to a prompt, the chosen one last; its label is its place."""
    prompt, answers = values.get("prompt"), {n: values.get(n) for n in ("rejected", "chosen")}
    if not isinstance(prompt, list) and all(isinstance(a, list) for a in answers.values()):
        rows = [_split_conversation(_read_turns(answer)) for answer in answers.values()]
    else:
        if "prompt" not in values:
            texts = [_require_text(answer, name) for name, answer in answers.items()]
            # A blank before the answers belongs to them, as in TRL.
            prompt = os.path.commonprefix(texts).removesuffix(" ")  # noqa: RUF071 (of any texts)
            if len({*texts}) > 1:
                answers = {n: t.removeprefix(prompt) for n, t in zip(answers, texts, strict=True)}
        rows = [_read_pair(prompt, answer, name) for name, answer in answers.items()]
    rejected, chosen = rows
    if normalise_text(chosen["target"]) == normalise_text(rejected["target"]):
        raise _fault(
            "has the same text as chosen and as rejected.",
            "Write two different answers, the better one as chosen, or remove the row.",
        )
    if chosen["messages"] != rejected["messages"]:
        raise _fault(
            "has chosen and rejected answers to different conversations.",
            "Let both differ in their last message alone, or remove the row.",
        )
    return _join_answers(rows, 1)


def _read_rated(values: Values) -> Instruction:
    """An answer to a prompt; its label is 1 where it is good."""
    rating = str(cell_text(values.get("label"))).casefold()
    if rating not in _RATINGS:
        raise _fault(f'has "{rating}" as label.', "Write true or false, or remove the row.")
    row = _read_pair(values.get("prompt"), values.get("completion"))
    return _join_answers([row], _RATINGS[rating])


def _join_answers(rows: Sequence[Instruction], label: int) -> Instruction:
    segments = tuple((row["segments"][0][0], row["target"]) for row in rows)
    return {"segments": segments, "label": label, "messages": rows[0]["messages"]}


def _read_sharegpt(values: Values) -> Instruction:
    turns = values.get("conversations")
    old = isinstance(turns, list) and any(isinstance(t, dict) and "from" in t for t in turns)
    keys = ("from", "value") if old else ("role", "content")
    return _split_conversation([*_read_system(values), *_read_turns(turns, *keys)])


def _read_alpaca(values: Values) -> Instruction:
    lines = [_require_text(values.get("instruction"), "instruction")]
    if values.get("input"):
        lines.append(_require_text(values["input"], "input"))
    messages = list(_read_system(values))
    history = values.get("history") or []
    if not isinstance(history, list) or any(
        not isinstance(pair, list) or len(pair) != 2 for pair in history
    ):
        raise _fault('holds no list of pairs in "history".', "List [instruction, output] pairs.")
    for question, answer in history:
        messages.append(("user", _require_text(question, "history")))
        messages.append(("assistant", _require_text(answer, "history")))
    output = _require_text(values.get("output"), "output")
    return _split_conversation([*messages, ("user", "\n".join(lines)), ("assistant", output)])


def _split_conversation(messages: Sequence[Message]) -> Instruction:
    """The last message is the completion."""
    if len(messages) < 2 or messages[-1][0] != "assistant":
        raise _fault(
            "is a conversation that does not end with an answer of the assistant.",
            "End it with an assistant message, or remove the row.",
        )
    *before, (_, completion) = messages
    prompt = "\n".join(f"{role}: {content}" for role, content in before)
    if [role for role, _ in before] == ["user"]:
        prompt = before[0][1]
    return {"segments": ((prompt, None),), "target": completion, "messages": tuple(before)}


def _read_system(values: Values) -> list[Message]:
    content = values.get("system")
    return [("system", _require_text(content, "system"))] if content else []


def _read_turns(
    turns: object, role_key: str = "role", content_key: str = "content"
) -> list[Message]:
    remedy = f'Give it a list of objects with "{role_key}" and "{content_key}".'
    if not isinstance(turns, list) or not turns:
        raise _fault("holds no list of messages.", remedy)
    messages = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise _fault(f"holds a message that is a {type(turn).__name__}.", remedy)
        role = turn.get(role_key)
        if not isinstance(role, str) or role not in _ROLES:
            raise _fault(
                f'has a message by "{role}".',
                f"Read are {', '.join(_ROLES)}; tools and their calls are not: remove the row.",
            )
        messages.append((_ROLES[role], _require_text(turn.get(content_key), content_key)))
    return messages


def _require_text(value: object, column: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if value is None or isinstance(value, str):
        raise _fault(f'has no text in "{column}".', "Give it a text, or remove the row.")
    raise _fault(
        f'holds a {type(value).__name__}, not a text, in "{column}".',
        "Only texts are read: write it as a text, or remove the row.",
    )


def _fault(what: str, remedy: str) -> InvalidValueError:
    return InvalidValueError("not-a-turn", what, remedy)


FORMS = (
    replace(named_form("prompt", "completion"), title="TRL"),
    Form("TRL", ("messages",), lambda v: _split_conversation(_read_turns(v.get("messages")))),
    Form("ShareGPT", ("conversations",), _read_sharegpt, ("system",)),
    Form("Alpaca", ("instruction", "output"), _read_alpaca, ("input", "history", "system")),
)
PREFERENCE_FORMS = {
    "preference": Form("TRL's DPO", ("chosen", "rejected"), _read_preference, ("prompt",)),
    "unpaired_preference": Form("TRL's KTO", ("prompt", "completion", "label"), _read_rated),
}
"""Readers by the kind of task, which is also their name; they give each answer and its prompt."""
