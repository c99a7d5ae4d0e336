"""Models and methods as a study file names them, and methods that propose runs."""

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
"""Languages of the ``forgetting`` text that comes with paretune: each has the same 40 paragraphs.
"""
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
"""Keys of a task whose values are paths."""


def is_path(name: str) -> bool:
    """Return whether a model or source is a folder; other names are of the hub or of a package."""
    return name.startswith((".", "/", "~"))


class FrozenModel(BaseModel):
    """A frozen value that refuses unknown keys.

    ``HINTS`` says, for a key that does not exist, why not, or what to write instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    HINTS: ClassVar[Mapping[str, str]] = {}


class ModelSpec(FrozenModel):
    """A hub name with revision, a folder, or ``package:NAME`` (weights in a Python package).

    ``source_prefix`` is put before every text to translate, as in the training of T5 (``"translate
    English to German: "``). ``quantisation`` holds its frozen linear layers in 4 bits (``nf4``,
    QLoRA) or 8 (``int8``); a method that trains or rewrites them is refused.
    """

    name: str = Field(min_length=1)
    revision: str | None = None
    label: str | None = None
    source_prefix: str | None = None
    quantisation: Quantisation | None = None

    @property
    def key(self) -> str:
        """A short name for tables: the label, or the last part of the name and the quantisation."""
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
"""The model of runs that were trained elsewhere without naming a model."""


class MethodSpec(BaseModel):
    """A method by name, with its options: ``{name: lora, rank: 8, alpha: 16}``.

    The options are plain values here; planning checks them against the method. ``readout`` says how
    the model answers; with None the task says it, or else the model's usual readout is taken.
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
        """The proposer of its runs; None for a method whose settings the study file gives."""
        return find_proposer(self.name)

    @property
    def is_command(self) -> bool:
        """Whether a program of the user does the training."""
        return self.name == COMMAND

    @property
    def options(self) -> dict[str, Any]:
        """The method's options, as written."""
        return dict(self.model_extra or {})

    @property
    def identifying_options(self) -> dict[str, Any]:
        """The options that can change a result."""
        ignored = NOT_IDENTIFYING if self.is_command else ()
        return {name: value for name, value in self.options.items() if name not in ignored}

    @property
    def options_of_runs(self) -> dict[str, Any]:
        """The options of its runs, without those that say which methods enter the study."""
        excluded = () if self.proposer is None else self.proposer.not_of_runs
        options = self.identifying_options
        return {name: value for name, value in options.items() if name not in excluded}

    @property
    def key(self) -> str:
        """A short name for tables: the label or the method's name."""
        return self.label or self.name


@dataclass(frozen=True)
class Proposer:
    """A method that proposes runs: it tries settings of its own choice, and trains the best.

    A package offers it by an entry point with the method's name in the group
    ``paretune.proposers``, in a module that imports no torch, beside the entry point of the method
    in ``paretune.methods``. Values of planning and training, which study files do not know, are
    ``Any`` here.

    Attributes:
        title: title of its method.
        completes: option that its runs have and a study file does not have.
        not_of_runs: options that say what else enters the study, and are not part of a run.
        list_rows: returns the methods that enter a study beside this one, as its controls.
        propose: takes (prepared study, cells of its method, ended records by run id) and returns
            the planned runs of each cell, all that it wants given the results so far. A trial has
            the stage ``tune`` and a separate cell; its ``proposed_by`` is the cell that it is for.
        measure_trial: takes (run, loaded model, mean squared gradient of each trained tensor in the
            first step) and returns what the record of a trial has in addition to other records.
        describe: takes (prepared study, its runs) and returns sentences for ``plan``.
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
    """Return the proposer of a method's runs; None where the method has none.

    Raises:
        PluginError: the proposer cannot be loaded.
    """
    if method not in plugins.names(plugins.PROPOSERS):
        return None
    return plugins.load(plugins.PROPOSERS, method, Proposer)
