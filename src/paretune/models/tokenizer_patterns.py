"""Refuses a ``tokenizer.json`` whose rules could take for ever, before any text is tokenized.

Its regular expressions are searched by native code that nothing interrupts. One that repeats a
repetition, ``(a+)+``, tries exponentially many ways to match; those of published tokenizers (GPT-2,
Llama 3, Qwen, o200k) repeat characters and classes only. Replacements may also multiply a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from paretune.errors import ModelError

MAX_GROWTH = 10_000
"""How many characters all replacements of a normaliser together may make of one."""
_REMEDY = "It is damaged, or not to be trusted: fetch it again, or choose another model."
_TOKEN = re.compile(
    r"(?P<escape>\\[pPxou]\{[^}]*\}|\\.)"
    r"|(?P<open>\((?:\?(?P<atomic>>)|\?#[^)]*|\?(?:<?[=!]|[A-Za-z-]*:|<[A-Za-z_]\w*>))?)"
    r"|(?P<repeat>(?:[*+?]|\{(?P<low>\d*)(?P<range>,)?(?P<high>\d*)\})(?P<mode>[?+]?))"
    r"|(?P<other>.)",
    re.DOTALL,
)


def require_bounded_patterns(tokenizer: Any, where: str) -> None:
    """Check the regular expressions and replacements of a tokenizer.

    Args:
        tokenizer: ``tokenizers.Tokenizer``, whichever file it came from.

    Raises:
        ModelError: a pattern repeats a repetition, or replacements multiply a text.
    """
    growth = 1
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        component = getattr(tokenizer, part)
        if component is None:
            continue
        for rule in _iterate_rules(json.loads(component.__getstate__())):
            pattern = rule.get("pattern")
            regex = pattern.get("Regex") if isinstance(pattern, dict) else None
            if isinstance(regex, str) and repeats_repetition(regex):
                raise ModelError(
                    f"its {part} has a regular expression that repeats a repetition, and could "
                    f"take for ever: {json.dumps(regex, ensure_ascii=False):.80}.",
                    where=where,
                    remedy=_REMEDY,
                )
            if part == "normalizer" and isinstance(text := rule.get("content"), str):
                growth *= max(len(text), 1)
    if growth > MAX_GROWTH:
        raise ModelError(
            f"its normalizer makes up to {growth:.3g} characters of one.",
            where=where,
            remedy=_REMEDY,
        )


def _iterate_rules(value: Any) -> Iterator[dict[str, Any]]:
    groups = [value]
    while groups:
        group = groups.pop()
        if isinstance(group, dict):
            yield group
            groups += group.values()
        elif isinstance(group, list):
            groups += group


def repeats_repetition(pattern: str) -> bool:
    """Whether a group that may match in several lengths is itself repeated.

    Groups that are atomic ``(?>...)`` and possessive repetitions ``++`` are not tried again.
    """
    varying = [False]  # of each open group: whether it has matched in several lengths
    atomic = [False]
    closed = False  # whether the last atom is a group that varies
    position = 0
    while position < len(pattern):
        if pattern[position] == "[":
            position, closed = _skip_class(pattern, position), False
            continue
        if (token := _TOKEN.match(pattern, position)) is None:  # never: "other" is any character
            break
        position = token.end()
        if token["open"]:
            varying.append(False)
            atomic.append(token["atomic"] is not None)
        elif token["other"] == ")" and len(varying) > 1:
            inner = varying.pop() and not atomic.pop()
            varying[-1] |= inner
            closed = inner
            continue
        elif token["repeat"]:
            lowest, highest = _read_bounds(token)
            if closed and highest > 1:
                return True
            varying[-1] |= lowest != highest and token["mode"] != "+"
            continue
        closed = False
    return False


def _read_bounds(token: re.Match[str]) -> tuple[float, float]:
    if token["low"] is None:
        return {"*": (0, float("inf")), "+": (1, float("inf")), "?": (0, 1)}[token["repeat"][0]]
    lowest = float(token["low"] or 0)
    if token["range"] is None:
        return lowest, lowest
    return lowest, float(token["high"]) if token["high"] else float("inf")


def _skip_class(pattern: str, start: int) -> int:
    """The position behind a character class, which may hold others; ``start``: of its bracket."""
    depth, position = 0, start
    while position < len(pattern):
        letter = pattern[position]
        if letter == "\\":
            position += 1
        elif letter == "[":
            depth += 1
            if pattern[position + 1 : position + 2] == "^":
                position += 1
            if pattern[position + 1 : position + 2] == "]":
                position += 1  # the first one is a letter of the class
        elif letter == "]":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return position
