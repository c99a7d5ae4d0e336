"""``paretune data sample``: copy the shipped samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson
from paretune.terminal import echo

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Copy sample data."""


@app.command()
def sample(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="routing, follows, paraphrase, complaints, spam, manual; or routing-sl ...",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where to. [default: ./NAME]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the train and test files of a sample task, to try things on.

    They were written for paretune (CC0). Nothing is downloaded or overwritten.
    """
    from paretune.tasks.samples import copy_sample

    files = copy_sample(name, output or Path(name))
    if as_json:
        write_result("data sample", {"name": name, "files": files})
        return
    for path in files:
        echo(f"Written: {path}")
    echo(f"Next: paretune new {next(path for path in files if path.stem == 'train')}")
