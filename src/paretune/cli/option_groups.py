"""Options that travel together, as values: typer sees the fields, the command gets the value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer read each parameter that is a dataclass as one option for every field of it.

    Typer makes an option of each parameter of a command. Options that several commands share, or
    that are handed on together, are fields of a frozen dataclass instead, declared once with their
    help. An argument that takes all remaining words comes last, wherever its group stands.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(command)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            own = {f.name: values.pop(f.name) for f in fields(group) if f.name in values}
            values[name] = group(**own)
        command(**values)

    parameters = sorted(_flatten(command, hints), key=_takes_the_rest)
    # What `typer` reads: the signature with resolved annotations.
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _flatten(command: Callable[..., None], hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    """The parameters of a command, those of a group one by one."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if not is_dataclass(hint):
            yield parameter.replace(annotation=hint, kind=keyword)
            continue
        types = get_type_hints(hint, include_extras=True)
        for field in fields(hint):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name, keyword, default=default, annotation=types[field.name]
            )


def _takes_the_rest(parameter: inspect.Parameter) -> bool:
    """Whether the type is a list, or one or None."""
    hint = parameter.annotation
    value = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return list in (get_origin(one) for one in (value, *get_args(value)))
