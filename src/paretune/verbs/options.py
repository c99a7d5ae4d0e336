"""Kinds of parameters of verbs, and parameters that several share.

The command line passes the first type of a union: a path where a path or a text may be given. In
Python a study may also be a :class:`~paretune.study.Study`, or plain values as
:meth:`Study.parse <paretune.study.Study.parse>` takes them; amounts may be numbers of bytes or
seconds. The help of an option stands under ``Args:`` of its verb; of shared ones it is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from paretune.study import Study
from paretune.verbs.study_input import shipped_studies


def complete_study(incomplete: str) -> list[str]:
    """Completions of a study in a shell: shipped names, study files, and folders on the way."""
    names = [name for name in shipped_studies() if name.startswith(incomplete)]
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    siblings = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in siblings if str(path).startswith(incomplete)]
    files = [str(path) for path in paths if path.suffix in (".yaml", ".yml")]
    return [*names, *files, *(f"{path}/" for path in paths if path.is_dir())]


Word = Annotated[str, typer.Argument()]
Name = Annotated[str, typer.Option()]
Flag = Annotated[bool, typer.Option()]
Column = Annotated[str, typer.Option(metavar="COLUMN")]
Model = Annotated[str, typer.Option(metavar="MODEL")]
TestFile = Annotated[str, typer.Option(metavar="FILE")]
File = Annotated[Path | str, typer.Option(metavar="FILE")]
Folder = Annotated[Path | str, typer.Option(metavar="FOLDER")]
Card = Annotated[
    Path | str | None,
    typer.Option(
        metavar="FILE",
        help="Also write the result as a picture for links: PNG or SVG, 1,200 x 630.",
    ),
]
Figures = Annotated[
    Path | str | None,
    typer.Option(metavar="FOLDER", help="Also write the figures here: PNG, SVG and PDF."),
]
Tables = Annotated[
    Path | str | None,
    typer.Option(metavar="FOLDER", help="Also write the tables here: CSV and LaTeX."),
]
Time = Annotated[str | float, typer.Option(metavar="TIME")]
Size = Annotated[str | float, typer.Option(metavar="SIZE")]
Seconds = Annotated[float, typer.Option(metavar="SECONDS", min=0.2)]

StudyLike = Annotated[
    str | Path | Study | Mapping[str, Any],
    typer.Argument(
        metavar="STUDY",
        help="A study file, or the name of a shipped one (paretune ls studies).",
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
    Path | str | None,
    typer.Option(metavar="FOLDER", help="Folder of the results. [default: studies/NAME]"),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="For scripts: JSON on standard output, or in --output."),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="With --json: write it here instead."),
]
AllowCommands = Annotated[
    bool, typer.Option(help="Let methods of the study start programs (command).")
]
Quiet = Annotated[bool, typer.Option(help="Only the answer, one line a task, and errors.")]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Processes that train at once on each device. [default: as many as cores and "
        "memory allow; 1 on a GPU]",
    ),
]
Threads = Annotated[int, typer.Option(metavar="N", min=1, help="Threads of each worker.")]
Devices = Annotated[
    str,
    typer.Option(
        metavar="DEVICES",
        help="cpu, cuda, or several: cuda:0,cuda:2; auto takes a GPU if there is one, all takes "
        "every GPU. Costs are measured on the first.",
    ),
]
Online = Annotated[bool, typer.Option(help="Fetch models and hub datasets that are not here yet.")]
TrainAgain = Annotated[
    bool, typer.Option(help="Train a run once more where its weights were not kept.")
]
MaxMemory = Annotated[
    str | float | None, typer.Option(metavar="SIZE", help="Peak memory in training: 4GiB.")
]
