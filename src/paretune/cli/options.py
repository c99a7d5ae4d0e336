"""Arguments and options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study file, or the name of a shipped one (paretune ls studies).",
        show_default=False,
    ),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of the results. [default: studies/NAME]"),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="For scripts: JSON on standard output, or in --output (docs/json.md)."
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="With --json: write it here instead."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Processes that train at once. [default: as many as cores and memory allow]",
    ),
]
Threads = Annotated[int, typer.Option(metavar="N", min=1, help="Threads of each worker.")]
Device = Annotated[
    str,
    typer.Option(metavar="DEVICE", help="cpu, cuda or cuda:1; auto takes a GPU if there is one."),
]
Online = Annotated[
    bool,
    typer.Option("--online", help="Fetch models and hub datasets that are not here yet."),
]
