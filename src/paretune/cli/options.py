"""Options and arguments that several commands share, and the values that they come as."""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from paretune.errors import StudyError

if TYPE_CHECKING:
    from paretune.study import Study


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer read each parameter that is a dataclass as one option for every field of it.

    Typer makes an option of each parameter of a command. Options that several commands share, or
    that are handed on together, are fields of a frozen dataclass instead, declared once with their
    help. An argument that takes all remaining words comes last, wherever its group stands.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(command)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            own = {f.name: values.pop(f.name) for f in fields(group) if f.name in values}
            values[name] = group(**own)
        command(**values)

    parameters = sorted(_flatten(command, hints), key=_takes_the_rest)
    # What `typer` reads: the signature with resolved annotations.
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _flatten(command: Callable[..., None], hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    """The parameters of a command, those of a group one by one."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if not is_dataclass(hint):
            yield parameter.replace(annotation=hint, kind=keyword)
            continue
        types = get_type_hints(hint, include_extras=True)
        for field in fields(hint):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name, keyword, default=default, annotation=types[field.name]
            )


def _takes_the_rest(parameter: inspect.Parameter) -> bool:
    """Whether the type is a list, or one or None."""
    hint = parameter.annotation
    value = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return list in (get_origin(one) for one in (value, *get_args(value)))


def complete_study(incomplete: str) -> list[str]:
    """What the shell offers for a study: shipped names, study files, and folders on the way."""
    from paretune.verbs.study_input import shipped_studies

    names = [name for name in shipped_studies() if name.startswith(incomplete)]
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    siblings = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in siblings if str(path).startswith(incomplete)]
    files = [str(path) for path in paths if path.suffix in (".yaml", ".yml")]
    return [*names, *files, *(f"{path}/" for path in paths if path.is_dir())]


StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study file, or the name of a shipped one (paretune ls studies).",
        show_default=False,
        autocompletion=complete_study,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings that replace those of the study file: training.epochs=3, "
        "protocol.seeds=[1,2] or methods.lora.rank=16.",
        show_default=False,
    ),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of the results. [default: studies/NAME]"),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="For scripts: JSON on standard output, or in --output."),
]
Devices = Annotated[
    str,
    typer.Option(
        metavar="DEVICES",
        help="cpu, cuda, or several: cuda:0,cuda:2; auto takes a GPU if there is one, all takes "
        "every GPU. Costs are measured on the first.",
    ),
]
Online = Annotated[
    bool,
    typer.Option("--online", help="Fetch models and hub datasets that are not here yet."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Only the answer, one line a task, and errors."),
]
TrainAgain = Annotated[
    bool,
    typer.Option("--train-again", help="Train a run once more where its weights were not kept."),
]


@dataclass(frozen=True)
class StudyArguments:
    """A study as it is named on the command line, with settings that replace those of its file.

    The study with other settings is a study of its own: a command that reads its results needs the
    same settings as the one that ran it.
    """

    name: StudyName
    overrides: Overrides = None

    def load(self) -> Study | str:
        """The study with the settings of the command line; without any, its name as it is.

        Raises:
            StudyError: no such study, or an invalid setting.
        """
        if not self.overrides:
            return self.name
        from paretune.study import Study
        from paretune.verbs import study_input

        return Study.load(study_input.find_study_file(self.name), self.overrides)

    def as_typed(self, store: Path | None = None) -> str:
        """How another command names the study, quoted for a shell; with ``--store`` if given."""
        where = [] if store is None else ["--store", str(store)]
        return shlex.join([self.name, *(self.overrides or ()), *where])


@dataclass(frozen=True)
class WorkerOptions:
    """How many processes train, on what."""

    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Processes that train at once on each device. [default: as many as cores and "
            "memory allow; 1 on a GPU]",
        ),
    ] = None
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Threads of each worker.")] = 1
    devices: Devices = "auto"
    online: Online = False


@dataclass(frozen=True)
class JsonOptions:
    """Whether the result is printed as JSON, and into which file.

    Raises:
        StudyError: a file is named without ``--json``, so nothing would go into it.
    """

    as_json: AsJson = False
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="With --json: write it here instead."),
    ] = None

    def __post_init__(self) -> None:
        if self.output is not None and not self.as_json:
            raise StudyError("needs --json.", where="--output", remedy="Add --json.")
