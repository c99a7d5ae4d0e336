"""A model and a method as a study file names them, what proposes runs, and the base of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from paretune import plugins
from paretune.answers import Readout

Quantisation = Literal["nf4", "int8"]
"""How the frozen linear layers of a model are held (:mod:`paretune.models.quantised`)."""


SHIPPED_LANGUAGES = ("sl", "en")
"""Of the text for ``forgetting`` that comes with paretune: 40 paragraphs, each in both."""
FILE_KEYS = (
    "train",
    "test",
    "test_shifted",
    "train_target",
    "test_target",
    "test_shifted_target",
    "unlabelled",
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
COMMAND = "command"
"""The method that is a program of the user (:mod:`paretune.methods.command`)."""
NOT_IDENTIFYING = ("timeout", "folder")
"""Options of a command that change no result."""
UNNAMED_MODEL = ModelSpec(name="unnamed")
"""The model of runs that were trained elsewhere and do not name it."""


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
    def proposer(self) -> Proposer | None:
        """What proposes its runs; None of a method that is set by hand."""
        return find_proposer(self.name)

    @property
    def is_command(self) -> bool:
        """Whether a program of the user trains."""
        return self.name == COMMAND

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options, as written."""
        return dict(self.model_extra or {})

    @property
    def identifying_options(self) -> dict[str, Any]:
        """Its options without those that change no result."""
        ignored = NOT_IDENTIFYING if self.is_command else ()
        return {name: value for name, value in self.options.items() if name not in ignored}

    @property
    def options_of_runs(self) -> dict[str, Any]:
        """Its options without those that say what else enters the study."""
        excluded = () if self.proposer is None else self.proposer.not_of_runs
        options = self.identifying_options
        return {name: value for name, value in options.items() if name not in excluded}

    @property
    def key(self) -> str:
        """Short name for tables: the label or the method's name."""
        return self.label or self.name


@dataclass(frozen=True)
class Proposer:
    """A method that proposes runs: it tries settings of its own choice, and trains the best.

    A package offers it by an entry point of its method's name in the group ``paretune.proposers``,
    in a module that imports no torch, beside that of the method in ``paretune.methods``. Values of
    planning and training, which study files do not know, are ``Any`` here.

    Attributes:
        title: of its method.
        completes: the option that its runs have and a study file has not.
        not_of_runs: options that say what else enters the study, and are no part of a run.
        list_rows: the methods that enter a study beside this one, as its controls.
        propose: all runs that it asks for by the results so far, (prepared study, cells of its
            method, ended records by run id) -> the planned runs of each cell. A trial is of stage
            ``tune``, in a cell of its own, and has in ``proposed_by`` the cell that it is for.
        measure_trial: what the record of a trial has beside what all have, (run, loaded model, mean
            squared gradient of each trained tensor in the first step).
        describe: sentences for ``plan``, (prepared study, its runs).
    """

    name: str
    title: str
    completes: str
    not_of_runs: tuple[str, ...]
    list_rows: Callable[[MethodSpec], Iterable[MethodSpec]]
    propose: Callable[[Any, Any, Any], Iterable[Any]]
    measure_trial: Callable[[Any, Any, Mapping[str, float]], dict[str, Any]]
    describe: Callable[[Any, Any], Iterable[str]]


def find_proposer(method: str) -> Proposer | None:
    """What proposes the runs of the method of this name; None where nothing does.

    Raises:
        PluginError: it cannot be loaded.
    """
    if method not in plugins.names(plugins.PROPOSERS):
        return None
    return plugins.load(plugins.PROPOSERS, method, Proposer)
