"""Options of a method: a frozen dataclass whose fields carry their allowed range."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any

from paretune.errors import MethodError
from paretune.study.aliases import OPTION_ALIASES, suggest


def bounded(default: float | None, low: float, high: float) -> Any:
    """A numeric option with inclusive bounds."""
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: str, *others: str) -> Any:
    """An option that is one of a few words."""
    return field(default=default, metadata={"choices": (default, *others)})


def derived_option() -> Any:
    """A field that is not in study files: it is derived from the tokenizer."""
    return field(default=(), metadata={"derived": True})


def derived_number(default: int) -> Any:
    """A number that is not in study files: another method sets it."""
    return field(default=default, metadata={"derived": True})


def methods_option() -> Any:
    """A list of methods: names, or mappings with a name and the method's options."""
    return field(default=(), metadata={"members": True})


def checked_option(default: Any, check: Callable[[str, Any], Any]) -> Any:
    """An option whose value is ``check(where, value)``, which raises a MethodError."""
    return field(default=default, metadata={"check": check})


_TYPE_TITLES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    types.NoneType: "null",
}


def parse_options(method: str, options: type, values: Mapping[str, Any]) -> Any:
    """Check the values of a study file and make a method's options of them.

    Options may explain by name, in ``CLOSED``, why they leave something out.

    Raises:
        MethodError: an unknown option, a wrong type, or a value out of range.
    """
    known = {f.name: f for f in _user_fields(options)}
    hints = typing.get_type_hints(options)
    checked = {}
    for name, value in values.items():
        if name not in known:
            closed = getattr(options, "CLOSED", {})
            raise MethodError(
                f'method {method} has no option "{name}"'
                f"{f': {closed[name]}' if name in closed else ''}.",
                remedy="" if name in closed else _suggest_option(method, name, known),
            )
        checked[name] = _check_value(method, known[name], hints[name], value)
    return options(**checked)


def _suggest_option(method: str, name: str, known: Iterable[str]) -> str:
    """The nearest option, or all there are."""
    aliases = OPTION_ALIASES.get(method, {})
    if method.startswith("peft:"):  # it has peft's names; whoever writes ours there means them
        pairs = OPTION_ALIASES["lora"].items()
        aliases = {ours: theirs for theirs, ours in pairs if theirs in known}
    if name in aliases:
        return f"Did you mean {aliases[name]}?"
    listed = ", ".join(known) or "none"
    near = suggest(name, known, aliases)
    return f"{near} Its options: {listed}." if near else f"Its options: {listed}."


def option_defaults(options: type) -> dict[str, Any]:
    """Option names with their defaults."""
    return {f.name: None if f.default is MISSING else f.default for f in _user_fields(options)}


def _user_fields(options: type) -> list[Field[Any]]:
    """The fields that a study file may set; those that all methods of a kind share come last."""
    own = sorted(fields(options), key=lambda f: f.kw_only is True)
    return [f for f in own if not f.metadata.get("derived")]


def _check_methods(where: str, value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list | tuple):
        raise MethodError(f"{value!r} is not a list of methods.", where=where)
    methods = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
    for entry in methods:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise MethodError(
                f"{entry!r} is not a method.",
                where=where,
                remedy="Write a name, or {name: ..., rank: 8}.",
            )
    return tuple(dict(entry) for entry in methods)


def _check_value(method: str, spec: Field[Any], hint: Any, value: Any) -> Any:
    where = f"method {method}, option {spec.name}"
    if spec.metadata.get("members"):
        return _check_methods(where, value)
    if check := spec.metadata.get("check"):
        return check(where, value)
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str):
            value = (value,)
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise MethodError(f"{value!r} is not a list of names.", where=where)
        if not value:
            raise MethodError("the list is empty.", where=where)
        return tuple(value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        expected = " or ".join(_TYPE_TITLES.get(one, one.__name__) for one in allowed)
        text = f'"{value}"' if isinstance(value, str) else repr(value)
        raise MethodError(f"{text} is not {expected}.", where=where)
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    if low is not None and value is not None and not low <= value <= high:
        raise MethodError(f"{value} is not between {low} and {high}.", where=where)
    words = spec.metadata.get("choices")
    if words is not None and value not in words:
        raise MethodError(f'"{value}" is not one of {", ".join(words)}.', where=where)
    return value
