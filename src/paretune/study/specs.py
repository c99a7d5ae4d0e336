"""A model and a method as a study file names them, what a search brings, and the base of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Readout = Literal["head", "label_words", "text", "reward", "likelihood"]
"""How a model answers: by a head; by the likelihood of each label's text; by a text it writes; of
preferences by the reward of each answer, or by its likelihood."""
Quantisation = Literal["nf4", "int8"]
"""How the frozen linear layers of a model are held (:mod:`paretune.models.quantised`)."""


FOUND_BY_SEARCH: Mapping[str, str] = {"auto": "methods"}
"""Methods that a search completes, with the option that it fills in."""
NOT_OF_RUNS: Mapping[str, tuple[str, ...]] = {"auto": ("finalists", "controls")}
"""Options that say what else enters the study, and are no part of a run."""
SHIPPED_LANGUAGES = ("sl", "en")
"""Of the text for ``forgetting`` that comes with paretune: 40 paragraphs, each in both."""
FILE_KEYS = (
    *("train", "test", "test_shifted"),
    *("train_target", "test_target", "test_shifted_target"),
)
PATH_KEYS = ("source", *FILE_KEYS)
"""The keys of a task that are paths."""


def is_path(name: str) -> bool:
    """Whether a model or source is a folder; all else is a name of the hub or of a package."""
    return name.startswith((".", "/", "~"))


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
        excluded = NOT_OF_RUNS.get(self.name, ())
        return {name: value for name, value in self.options.items() if name not in excluded}

    @property
    def key(self) -> str:
        """Short name for tables: the label or the method's name."""
        return self.label or self.name


RANDOM, TUNED = "random", "tuned-lora"
"""What is appended to the key of a search for the keys of its controls."""


def enter_search_rows(methods: Sequence[MethodSpec]) -> tuple[MethodSpec, ...]:
    """The methods of a study with the rows that their searches bring.

    A search that is better than nothing but itself shows nothing. So beside the one combination
    that its row names stand the best of random configurations, which took as many trainings, and
    LoRA whose rank and rate took as many; and where ``finalists`` asks for it, further
    configurations of its front. What the study names itself is not brought again.
    """
    entered: dict[str, MethodSpec] = {}
    for method in methods:
        entered[method.key] = method
        if method.found_by_search:
            written = [m.options_of_runs for m in methods if m.name == method.name]
            for row in _list_search_rows(method):
                if row.options not in written:
                    entered.setdefault(row.key, row)
    return tuple(entered.values())


def _list_search_rows(search: MethodSpec) -> Iterator[MethodSpec]:
    options = search.options_of_runs
    finalists = search.options.get("finalists", 1)
    if isinstance(finalists, int):  # what it must be, planning says
        for place in range(2, min(finalists, 3) + 1):
            yield _make_row(search, str(place), {**options, "finalist": place})
    is_control = options.get("sampler") == "random" or options.get("members") in (
        ["lora"],
        ("lora",),
    )
    if search.options.get("controls", True) is not True or is_control or "finalist" in options:
        return
    yield _make_row(search, RANDOM, {**options, "sampler": "random"})
    yield _make_row(search, TUNED, {**options, "members": ["lora"], "groups": 1, "pick": "best"})


def _make_row(search: MethodSpec, suffix: str, options: dict[str, object]) -> MethodSpec:
    values = {"name": search.name, "label": f"{search.key}-{suffix}", "readout": search.readout}
    return MethodSpec.model_validate({**values, **options})
