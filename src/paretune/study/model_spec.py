"""A model as a study names it. No torch."""

from __future__ import annotations

from pydantic import Field

from paretune.study import aliases
from paretune.study.base import FrozenModel


class ModelSpec(FrozenModel):
    """A hub name with revision, a folder, or ``package:NAME`` (weights in a Python package).

    ``source_prefix`` is put before every text to translate, as T5 was trained with
    (``"translate English to German: "``).
    """

    ALIASES = aliases.MODEL_ALIASES

    name: str = Field(min_length=1)
    revision: str | None = None
    label: str | None = None
    source_prefix: str | None = None

    @property
    def key(self) -> str:
        """Short name for tables: the label, or the last part of the name."""
        return self.label or self.name.rstrip("/").removeprefix("package:").split("/")[-1]
