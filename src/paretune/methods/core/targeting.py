"""Which linear layers a method adapts: PEFT's options, by PEFT's rules.

``target_modules`` as a list holds roles (``query``, ``all_linear``) and ends of modules' names; as
a string with the signs of a regular expression, an expression for a module's whole name.
``exclude_modules`` is read in the same way. A key of ``rank_pattern`` and ``alpha_pattern`` is a
regular expression for the end of a name, whole between dots; the first that matches counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paretune.errors import MethodError
from paretune.models.structure.anatomy import Anatomy, find_target_modules

REGEX_CHARACTERS = re.compile(r"[\\*+?\[\](){}|^$]")
"""Characters that occur in regular expressions and not in the names of modules."""


def check_modules(where: str, value: Any) -> Any:
    """A list of names, or the text of a regular expression; None as it is.

    Raises:
        MethodError: it is neither.
    """
    if isinstance(value, str) and REGEX_CHARACTERS.search(value):
        return _check_regex(where, value)
    return check_names(where, value)


def check_names(where: str, value: Any) -> tuple[str, ...] | None:
    """A list of names; None as it is.

    Raises:
        MethodError: it is none.
    """
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise MethodError(f"{value!r} is not a list of names.", where=where)
    if not names:
        raise MethodError("the list is empty.", where=where)
    return tuple(names)


def check_layers(where: str, value: Any) -> tuple[int, ...] | None:
    """Numbers of layers, from 0; one may stand alone.

    Raises:
        MethodError: they are none.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(type(one) is int and one >= 0 for one in numbers):
        raise MethodError(f"{value!r} is not a list of layers, from 0.", where=where)
    return tuple(numbers)


def pattern_check(low: float, high: float, kind: type) -> Callable[[str, Any], Any]:
    """A check of numbers by the ends of modules' names, each of ``kind`` and within the bounds."""

    def check(where: str, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping) or not value:
            raise MethodError(
                f"{value!r} is not a group of names and numbers.",
                where=where,
                remedy="Write {NAME: NUMBER}, as {layer.0.attention.self.query: 16}.",
            )
        for name, one in value.items():
            _check_regex(where, str(name))
            good = isinstance(one, int | kind) and not isinstance(one, bool)
            if not good or not low <= one <= high:
                raise MethodError(
                    f"{name}: {one!r} is not a number between {low} and {high}.", where=where
                )
        return {str(name): kind(one) for name, one in value.items()}

    return check


def _check_regex(where: str, text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise MethodError(
            f'"{text}" is no regular expression ({error}).',
            where=where,
            remedy="Names of modules go into a [list].",
        ) from None
    return text


def select_layers(
    anatomy: Anatomy,
    targets: Sequence[str] | str,
    excluded: Sequence[str] | str | None = None,
    layers: Sequence[int] | None = None,
    *,
    allow_unmatched: bool = False,
) -> list[str]:
    """Names of the linear layers that are targets, not excluded, and in one of ``layers``.

    Raises:
        MethodError: a name matches nothing, a layer is not there, or none is left.
    """
    names = match_layers(anatomy, targets, "target_modules", allow_unmatched=allow_unmatched)
    if excluded is not None:
        out = set(
            match_layers(anatomy, excluded, "exclude_modules", allow_unmatched=allow_unmatched)
        )
        if not out.intersection(names) and not allow_unmatched:
            raise MethodError(
                "exclude_modules: none of them is among the target_modules.",
                remedy="Remove it, or name what is to be left out.",
            )
        names = [name for name in names if name not in out]
    if layers is not None:
        count = len(anatomy.layers)
        if not all(0 <= number < count for number in layers):
            raise MethodError(
                f"layers_to_transform: {list(layers)} are no layers; the model has "
                f"0 to {count - 1}."
            )
        inside = tuple(f"{anatomy.layers[number].name}." for number in layers)
        names = [name for name in names if name.startswith(inside)]
    if not names and not allow_unmatched:
        raise MethodError(
            "no layer is left to stand beside.",
            remedy="Name more in target_modules or layers_to_transform.",
        )
    return names


def match_layers(
    anatomy: Anatomy, targets: Sequence[str] | str, option: str, *, allow_unmatched: bool = False
) -> list[str]:
    """Names of the linear layers that a list of names or a regular expression matches."""
    if not isinstance(targets, str):
        return find_target_modules(anatomy, targets, option=option, allow_unmatched=allow_unmatched)
    names = [name for name in anatomy.linear_layers if re.fullmatch(targets, name)]
    if not names and not allow_unmatched:
        raise MethodError(
            f'{option}: "{targets}" matches the whole name of no linear layer.',
            remedy=f"The first is {anatomy.linear_layers[0]}; begin with .* for any beginning.",
        )
    return names


def matches_end(key: str, name: str) -> bool:
    """Whether a pattern's key matches the end of a name, whole between dots."""
    return re.fullmatch(rf"(.*\.)?({key})", name) is not None


def first_match(pattern: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """The value of the first key that matches the end of a name."""
    return next((one for key, one in (pattern or {}).items() if matches_end(key, name)), default)
