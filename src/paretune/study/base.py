"""The base of every group of keys in a study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from paretune.study import aliases


class FrozenModel(BaseModel):
    """A frozen value that refuses unknown keys.

    ``ALIASES``: other spellings of its keys with the same meaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ALIASES: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename_aliases(cls, values: Any) -> Any:
        return aliases.apply_aliases(values, cls.ALIASES)
