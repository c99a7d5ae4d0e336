"""The options of one of ``peft``'s tuners: the fields of its config, under their own names."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, create_model

from paretune.methods.core.options import MethodOptions
from paretune.methods.core.targeting import Modules
from paretune.methods.peft.supported import CLOSED, SupportedTuner

PEFT_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
"""What ``peft`` calls options of our lora."""
LAYER_OPTIONS = ("target_modules", "feedforward_modules")
"""Options that name layers: they take our roles beside the ends of modules' names."""


def make_options(config: type, supported: SupportedTuner) -> type[MethodOptions]:
    """The tuner's options; ``HINTS`` explains what is left out.

    Defaults are ``peft``'s own; what a study file does not set is not passed to ``peft``.

    Args:
        config: ``peft``'s config class of the tuner.
    """
    closed = {**CLOSED, **supported.closed_options}
    targets = supported.targets
    inner = tuple(role for role in targets or () if role.startswith("feed_forward"))
    options: dict[str, Any] = {}
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        name, kind = field.name, hints[field.name]
        default = None if field.default is dataclasses.MISSING else field.default
        if not field.init or name in closed:
            continue
        if name in LAYER_OPTIONS:
            kind, default = Modules | None, targets if name == "target_modules" else inner or None
        elif name in supported.barred_values or name in supported.numbered_values:
            kind = Annotated[kind, _make_check(name, supported)]
        options[name] = (kind, Field(default=default))
    model: type[MethodOptions] = create_model(
        "Options", __base__=MethodOptions, __doc__=config.__doc__, **options
    )
    names = {ours: f"write {name}" for ours, name in PEFT_NAMES.items() if name in options}
    model.HINTS = {**names, **closed}
    return model


def _make_check(option: str, supported: SupportedTuner) -> WrapValidator:
    """Refuse the option's barred values; take its words that end in a number of the user's."""
    barred: Mapping[str, str] = supported.barred_values.get(option, {})
    prefix = supported.numbered_values.get(option, "")

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str) and value in barred:
            raise ValueError(f"{value}: {barred[value]}")
        if not prefix or not isinstance(value, str) or not value.startswith(prefix):
            return validate(value)
        if not re.fullmatch("[1-9][0-9]{0,2}", value.removeprefix(prefix)):
            raise ValueError(f'"{value}" names no number; write {prefix}16, or another of 1 to 999')
        return value

    return WrapValidator(check)


def non_default_settings(options: MethodOptions) -> dict[str, Any]:
    """The values that differ from ``peft``'s defaults, without the names of layers."""
    defaults = {name: field.default for name, field in type(options).model_fields.items()}
    return {
        name: value
        for name, value in options
        if name not in LAYER_OPTIONS and value != defaults[name]
    }
