"""The four forms of instruction rows, and rows that hold no completion."""

from __future__ import annotations

import re
from typing import Any

import pytest

from paretune.data.finding import InvalidValueError
from paretune.data.instructions import find_form

USER, BOT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
ASKED = (("user", "Hi"),)
READ: list[tuple[dict[str, Any], str, str, tuple[tuple[str, str], ...]]] = [
    ({"prompt": "Hi", "completion": " Hello"}, "Hi", " Hello", ()),
    ({"prompt": [USER], "completion": [BOT]}, "Hi", "Hello", ASKED),
    ({"messages": [USER, BOT], "prompt": "Hi"}, "Hi", "Hello", ASKED),
    (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        *("Hi", "Hello", ASKED),
    ),
    ({"conversations": [USER, BOT]}, "Hi", "Hello", ASKED),
    ({"instruction": "Hi", "input": "", "output": "Hello"}, "Hi", "Hello", ASKED),
    (
        {"instruction": "Add", "input": "1 2", "output": "3", "history": [["Hi", "Hello"]]},
        *("user: Hi\nassistant: Hello\nuser: Add\n1 2", "3"),
        (("user", "Hi"), ("assistant", "Hello"), ("user", "Add\n1 2")),
    ),
    (
        {"messages": [{"role": "system", "content": "Be brief."}, USER, BOT]},
        *("system: Be brief.\nuser: Hi", "Hello", (("system", "Be brief."), ("user", "Hi"))),
    ),
]


@pytest.mark.parametrize(("values", "prompt", "completion", "messages"), READ)
def test_every_form_is_read(
    values: dict[str, Any], prompt: str, completion: str, messages: tuple[tuple[str, str], ...]
) -> None:
    form = find_form(values)
    fields = {"segments": ((prompt, None),), "target": completion, "messages": messages}
    assert form is not None and form.read(values) == fields


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"prompt": "Hi", "completion": " "}, 'has no text in "completion"'),
        ({"prompt": "Hi", "completion": [BOT]}, 'holds a list, not a text, in "completion"'),
        ({"messages": [USER]}, "does not end with an answer of the assistant"),
        ({"messages": []}, "holds no list of messages"),
        ({"messages": ["Hi"]}, "holds a message that is a str"),
        ({"messages": [USER, {"role": "tool", "content": "3"}]}, 'has a message by "tool"'),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, 'no text in "content"'),
        ({"conversations": [{"from": "observation", "value": "3"}]}, 'message by "observation"'),
        ({"instruction": "Add", "output": None}, 'has no text in "output"'),
        ({"instruction": "Add", "output": "3", "history": ["Hi"]}, "no list of pairs"),
    ],
)
def test_a_row_without_a_completion_is_refused(values: dict[str, Any], what: str) -> None:
    form = find_form(values)
    assert form is not None
    with pytest.raises(InvalidValueError, match=re.escape(what)):
        form.read(values)
