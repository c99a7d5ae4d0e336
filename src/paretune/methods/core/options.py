"""Options of a method: a pydantic model of what a study file may say beside its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from paretune.errors import MethodError
from paretune.study.specs import FrozenModel
from paretune.study.validation_errors import read_faults


class MethodOptions(FrozenModel):
    """Base of the options of every method, and the options of a method that has none.

    Values are taken as they are: ``"8"`` and ``8.0`` are no whole numbers. What is no field is not
    set in study files: a private attribute, filled in later.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


OptionsT = TypeVar("OptionsT", bound=MethodOptions)


def parse_options(method: str, options: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """Check the values of a study file and make a method's options of them.

    Raises:
        MethodError: an unknown option, a wrong type, or a value out of range; a line for each.
    """
    try:
        return options.model_validate(dict(values))
    except ValidationError as error:
        lines = []
        for fault in read_faults(error, options, values):
            option = ", option " + ".".join(map(str, fault.group)) if fault.group else ""
            lines.append(f"method {method}{option}: {fault.what}. {fault.remedy}".rstrip())
        raise MethodError("\n".join(lines)) from None


def _as_tuple(value: Any) -> Any:
    """A list as a tuple, and what stands alone as a tuple of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
"""A list of names; one may stand alone."""
LayerNumbers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_tuple), Field(min_length=1)
]
"""Numbers of layers, from 0; one may stand alone."""


def _read_methods(value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is not a list of methods")
    methods = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
    for entry in methods:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise ValueError(f"{entry!r} is not a method; write a name, or {{name: ..., rank: 8}}")
    return tuple(dict(entry) for entry in methods)


MethodList = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_read_methods)]
"""Methods: names, or mappings with a name and the method's options."""
