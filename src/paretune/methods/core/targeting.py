"""Which linear layers a method adapts: PEFT's options, by PEFT's rules.

``target_modules`` as a list holds roles (``query``, ``all_linear``) and ends of modules' names; as
a string with the signs of a regular expression, an expression for a module's whole name.
``exclude_modules`` is read in the same way. A key of ``rank_pattern`` and ``alpha_pattern`` is a
regular expression for the end of a name, whole between dots; the first that matches counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Tag

from paretune.errors import MethodError
from paretune.methods.core.options import Names
from paretune.models.structure.anatomy import Anatomy, find_target_modules

REGEX_CHARACTERS = re.compile(r"[\\*+?\[\](){}|^$]")
"""Characters that occur in regular expressions and not in the names of modules."""


def _check_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(
            f'"{text}" is no regular expression ({error}); names of modules go into a [list]'
        ) from None
    return text


def _has_expression(value: Any) -> str:
    is_expression = isinstance(value, str) and REGEX_CHARACTERS.search(value)
    return "expression" if is_expression else "names"


Expression = Annotated[str, AfterValidator(_check_expression)]
"""A regular expression."""
Modules = Annotated[
    Annotated[Expression, Tag("expression")] | Annotated[Names, Tag("names")],
    Discriminator(_has_expression),
]
"""A list of names, or the text of a regular expression."""


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
    return next(
        (value for key, value in (pattern or {}).items() if matches_end(key, name)), default
    )
