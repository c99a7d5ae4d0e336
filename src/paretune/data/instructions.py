"""Rows of instruction data: a prompt, or a conversation, and the completion that a model learns.

Four forms, told apart by their columns: ``prompt`` and ``completion`` (texts, or lists of messages)
and ``messages`` of TRL, ``conversations`` of ShareGPT, ``instruction``, ``input`` and ``output`` of
Alpaca (Taori et al. 2023). A row of Alpaca's is read as LLaMA-Factory reads it: instruction and
input, a line each, are what the user says, with the pairs of ``history`` before and ``system``
first. The completion is the last assistant message; what is before it is the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from paretune.data.example import Message
from paretune.data.finding import Finding
from paretune.data.rows import Row

PROMPT, COMPLETION, MESSAGES = "prompt", "completion", "messages"
"""Columns of a row that was read."""
_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Roles of TRL and ShareGPT, as chat templates know them."""

Values = Mapping[str, object]


class InvalidRowError(ValueError):
    """Why no completion can be read from a row, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


@dataclass(frozen=True)
class Instruction:
    """A prompt as text, or as messages before the answer, and the completion."""

    prompt: str
    completion: str
    messages: tuple[Message, ...] = ()

    @classmethod
    def of_messages(cls, messages: Sequence[Message]) -> Instruction:
        """A conversation whose last message is the completion.

        Raises:
            InvalidRowError: it does not end with an answer of the assistant.
        """
        if len(messages) < 2 or messages[-1][0] != "assistant":
            raise InvalidRowError(
                "is a conversation that does not end with an answer of the assistant.",
                "End it with an assistant message, or remove the row.",
            )
        before = tuple(messages[:-1])
        return cls(write_messages(before), messages[-1][1], before)


@dataclass(frozen=True)
class Form:
    """One form: the columns that a row must have, others that are read, and how."""

    title: str
    columns: tuple[str, ...]
    read: Callable[[Values], Instruction]
    optional: tuple[str, ...] = ()


def write_messages(messages: Sequence[Message]) -> str:
    """Messages as one text for readers and audits: what a lone user says, as it is."""
    if [role for role, _ in messages] == ["user"]:
        return messages[0][1]
    return "\n".join(f"{role}: {content}" for role, content in messages)


def find_form(columns: Collection[str]) -> Form | None:
    """The first form all of whose columns are there; None: it is none of them."""
    return next((form for form in FORMS if set(form.columns) <= set(columns)), None)


def describe_forms() -> str:
    """The columns of all forms, for messages."""
    return "; ".join(f"{' and '.join(form.columns)} ({form.title})" for form in FORMS)


def parse_instructions(rows: Sequence[Row], form: Form) -> tuple[list[Row], list[Finding]]:
    """Rows with prompt, completion and messages beside what they had, and what cannot be read."""
    parsed, faults = [], []
    for row in rows:
        try:
            item = form.read(row.values)
        except InvalidRowError as error:
            faults.append(Finding("error", "not-a-turn", row.where, error.what, error.remedy))
            continue
        own = {PROMPT: item.prompt, COMPLETION: item.completion, MESSAGES: item.messages}
        parsed.append(replace(row, values={**row.values, **own}))
    return parsed, faults


def read_prompt_completion(values: Values) -> Instruction:
    """Prompt and completion: texts, or lists of messages.

    Raises:
        InvalidRowError: one of them is missing, or is something else.
    """
    prompt, completion = values.get(PROMPT), values.get(COMPLETION)
    if isinstance(prompt, list) and isinstance(completion, list):
        before, answer = _read_turns(prompt, "role", "content"), completion
        return Instruction.of_messages([*before, *_read_turns(answer, "role", "content")])
    return Instruction(_require_text(prompt, PROMPT), _require_text(completion, COMPLETION))


def _read_messages(values: Values) -> Instruction:
    return Instruction.of_messages(_read_turns(values.get(MESSAGES), "role", "content"))


def _read_sharegpt(values: Values) -> Instruction:
    turns = values.get("conversations")
    old = isinstance(turns, list) and any(isinstance(t, dict) and "from" in t for t in turns)
    keys = ("from", "value") if old else ("role", "content")
    return Instruction.of_messages([*_system(values), *_read_turns(turns, *keys)])


def _read_alpaca(values: Values) -> Instruction:
    lines = [_require_text(values.get("instruction"), "instruction")]
    if values.get("input"):
        lines.append(_require_text(values["input"], "input"))
    messages = list(_system(values))
    history = values.get("history") or []
    if not isinstance(history, list):
        raise InvalidRowError('holds no list in "history".', "List [instruction, output] pairs.")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InvalidRowError(
                'holds something else than pairs in "history".', "List [instruction, output] pairs."
            )
        messages.append(("user", _require_text(pair[0], "history")))
        messages.append(("assistant", _require_text(pair[1], "history")))
    output = _require_text(values.get("output"), "output")
    return Instruction.of_messages([*messages, ("user", "\n".join(lines)), ("assistant", output)])


def _system(values: Values) -> list[Message]:
    content = values.get("system")
    return [("system", _require_text(content, "system"))] if content else []


def _read_turns(turns: object, role_key: str, content_key: str) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise InvalidRowError(
            "holds no list of messages.",
            f'Give it a list of objects with "{role_key}" and "{content_key}".',
        )
    messages = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise InvalidRowError(
                f"holds a message that is a {type(turn).__name__}.",
                f'A message is an object with "{role_key}" and "{content_key}".',
            )
        role = turn.get(role_key)
        if not isinstance(role, str) or role not in _ROLES:
            raise InvalidRowError(
                f'has a message by "{role}".',
                f"Read are {', '.join(_ROLES)}; tools and their calls are not: remove the row.",
            )
        messages.append((_ROLES[role], _require_text(turn.get(content_key), content_key)))
    return messages


def _require_text(value: object, column: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if value is None or isinstance(value, str):
        raise InvalidRowError(f'has no text in "{column}".', "Give it a text, or remove the row.")
    raise InvalidRowError(
        f'holds a {type(value).__name__}, not a text, in "{column}".',
        "Only texts are read: write it as a text, or remove the row.",
    )


FORMS = (
    Form("TRL", (PROMPT, COMPLETION), read_prompt_completion),
    Form("TRL", (MESSAGES,), _read_messages),
    Form("ShareGPT", ("conversations",), _read_sharegpt, ("system",)),
    Form("Alpaca", ("instruction", "output"), _read_alpaca, ("input", "system", "history")),
)
