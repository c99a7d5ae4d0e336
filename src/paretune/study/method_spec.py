"""A method as a study names it, its options as plain values. No torch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paretune.study import aliases


class MethodSpec(BaseModel):
    """A method by name, with its options: ``{name: lora, rank: 8, alpha: 16}``.

    Planning checks the options against the method; here they are only plain values. Aliases of
    names and options (``r``, ``LoRA``) are replaced.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(min_length=1)
    learning_rates: tuple[Annotated[float, Field(gt=0, lt=10)], ...] | None = None
    label: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _rename_aliases(cls, values: Any) -> Any:
        return aliases.apply_method_aliases(values)

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options, as written."""
        return dict(self.model_extra or {})

    @property
    def key(self) -> str:
        """Short name for tables: the label or the method's name."""
        return self.label or self.name
