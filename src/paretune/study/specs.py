"""A model and a method as a study file names them, and the base of all such values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Readout = Literal["head", "label_words", "text"]
"""How a model answers: by a head; by the likelihood of each label's text; by a text it writes."""
Quantisation = Literal["nf4", "int8"]
"""How the frozen linear layers of a model are held (:mod:`paretune.models.quantised`)."""


FOUND_BY_SEARCH: Mapping[str, str] = {"auto": "methods"}
"""Methods that a search completes, with the option that it fills in."""
NOT_OF_RUNS: Mapping[str, tuple[str, ...]] = {"auto": ("finalists", "controls")}
"""Options that say what else enters the study, and are no part of a run."""


class FrozenModel(BaseModel):
    """A frozen value that refuses unknown keys.

    ``HINTS``: by the name of what is no key, why not, or what to write instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    HINTS: ClassVar[Mapping[str, str]] = {}


class ModelSpec(FrozenModel):
    """A hub name with revision, a folder, or ``package:NAME`` (weights in a Python package).

    ``source_prefix`` is put before every text to translate, as T5 was trained with
    (``"translate English to German: "``). ``quantisation``: its frozen linear layers are held in 4
    bits (``nf4``, QLoRA) or 8 (``int8``); a method that trains or rewrites them is refused.
    """

    name: str = Field(min_length=1)
    revision: str | None = None
    label: str | None = None
    source_prefix: str | None = None
    quantisation: Quantisation | None = None

    @property
    def key(self) -> str:
        """Short name for tables: the label, or the last part of the name and the quantisation."""
        if self.label:
            return self.label
        name = self.name.rstrip("/").removeprefix("package:").split("/")[-1]
        return name if self.quantisation is None else f"{name}-{self.quantisation}"


NO_MODEL = ModelSpec(name="-")
"""The model of a baseline that needs none."""


class MethodSpec(BaseModel):
    """A method by name, with its options: ``{name: lora, rank: 8, alpha: 16}``.

    Planning checks the options against the method; here they are only plain values. ``readout``:
    how the model answers; None: as the task says, or else as is usual for such models.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(min_length=1)
    learning_rates: (
        Annotated[
            tuple[Annotated[float, Field(gt=0, lt=10)], ...],
            BeforeValidator(lambda value: [value] if isinstance(value, int | float) else value),
        ]
        | None
    ) = None
    readout: Readout | None = None
    label: str | None = None

    @property
    def found_by_search(self) -> str:
        """The option that a search fills in; "" of a method that is set by hand."""
        return FOUND_BY_SEARCH.get(self.name, "")

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options, as written."""
        return dict(self.model_extra or {})

    @property
    def options_of_runs(self) -> dict[str, Any]:
        """Its options without those that say what else enters the study."""
        others = NOT_OF_RUNS.get(self.name, ())
        return {name: value for name, value in self.options.items() if name not in others}

    @property
    def key(self) -> str:
        """Short name for tables: the label or the method's name."""
        return self.label or self.name
