"""The options of one of ``peft``'s tuners: the fields of its config, under their own names."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from paretune.errors import MethodError
from paretune.methods.core.options import checked_option
from paretune.methods.core.targeting import check_modules
from paretune.methods.peft.supported import CLOSED, SupportedTuner

LAYER_OPTIONS = ("target_modules", "feedforward_modules")
"""Options that name layers: they take our roles beside the ends of modules' names."""
MAX_NUMBER = 1000
_PLAIN = (bool, int, float, str, types.NoneType, dict, list, tuple, set)


def make_options(config: type, supported: SupportedTuner) -> type:
    """A frozen dataclass with the tuner's options; ``CLOSED`` explains what is left out.

    Defaults are ``peft``'s own; what a study file does not set is not passed to ``peft``.

    Args:
        config: ``peft``'s config class of the tuner.
    """
    hints = typing.get_type_hints(config)
    closed = {**CLOSED, **supported.closed_options}
    specs: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(config):
        name, hint = field.name, hints[field.name]
        if not field.init or name in closed:
            continue
        if name == "target_modules":
            specs.append((name, Any, checked_option(supported.targets, check_modules)))
        elif name == "feedforward_modules":
            roles = supported.targets or ()
            inner = tuple(role for role in roles if role.startswith("feed_forward"))
            specs.append((name, Any, checked_option(inner or None, check_modules)))
        elif not _is_plain_type(hint):
            closed[name] = "it is not a plain value"
        else:
            default = None if field.default is dataclasses.MISSING else field.default
            check = _make_check(
                hint, supported.barred_values.get(name, {}), supported.numbered_values.get(name, "")
            )
            specs.append((name, Any, checked_option(default, check)))
    namespace = {"CLOSED": closed, "__doc__": config.__doc__}
    options: type = dataclasses.make_dataclass("Options", specs, frozen=True, namespace=namespace)
    return options


def non_default_settings(options: Any) -> dict[str, Any]:
    """The values that differ from ``peft``'s defaults, without the names of layers."""
    return {
        field.name: value
        for field in dataclasses.fields(options)
        if field.name not in LAYER_OPTIONS and (value := vars(options)[field.name]) != field.default
    }


def value_fits(hint: Any, value: Any) -> bool:
    """Whether a value from a study file is of a type that a field's hint allows."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if kind in (Union, types.UnionType):
        return any(value_fits(one, value) for one in inner)
    if kind is Literal:
        return any(type(value) is type(word) and value == word for word in inner)
    if hint in (list, tuple, set) or kind in (list, tuple, set):
        return isinstance(value, list | tuple) and all(
            value_fits(inner[0], one) for one in value if inner
        )
    if hint is dict or kind is dict:
        return isinstance(value, Mapping) and all(
            value_fits(inner[0], key) and value_fits(inner[1], one)
            for key, one in value.items()
            if inner
        )
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [member.value for member in hint]
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)


def _is_plain_type(hint: Any) -> bool:
    """Whether YAML has values of this type; of several, one is enough."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (Union, types.UnionType):
        return any(_is_plain_type(one) for one in inner if one is not types.NoneType)
    if kind is Literal or hint is Any or kind in _PLAIN or hint in _PLAIN:
        return True
    return isinstance(hint, type) and issubclass(hint, enum.Enum)


def _make_check(hint: Any, barred: Mapping[str, str], counted: str) -> Callable[[str, Any], Any]:
    """``counted``: what a word begins with that ends in a number of one's own choice, or ""."""

    def check(where: str, value: Any) -> Any:
        if counted and isinstance(value, str) and value.startswith(counted):
            number = value.removeprefix(counted)
            if number.isascii() and number.isdecimal() and 0 < int(number) <= MAX_NUMBER:
                return value
            raise MethodError(
                f'"{value}" names no number.',
                where=where,
                remedy=f"Write {counted}16, with 1 to {MAX_NUMBER} in the place of 16.",
            )
        if isinstance(value, str) and value in barred:
            raise MethodError(f"{value}: {barred[value]}.", where=where)
        if not value_fits(hint, value):
            raise MethodError(f"{value!r} is not of type {_type_name(hint)}.", where=where)
        return value

    return check


def _type_name(hint: Any) -> str:
    """A type for messages."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (Union, types.UnionType):
        return " or ".join(_type_name(one) for one in inner)
    if kind is Literal:
        return " or ".join(repr(word) for word in inner)
    if kind is not None and inner:
        return f"{kind.__name__} of {' and '.join(_type_name(one) for one in inner)}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(repr(member.value) for member in hint)
    if hint is types.NoneType:
        return "null"
    return getattr(hint, "__name__", str(hint))
