"""``paretune data``: download pinned public data into the cache; copy the shipped samples."""

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
    """Fetch public data sets, or copy the sample data that ships with paretune."""


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="superglue-sl", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where to. [default: $PARETUNE_HOME, or the cache folder]",
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror that holds the same files.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a pinned public data set, and verify it.

    Every file is compared with its known sha256. Files that are complete stay; an interrupted
    download is resumed.
    """
    from paretune.data.sources.download import download_collection as download

    printed: dict[str, int] = {}

    def progress(file: str, received: int, total: int) -> None:
        percent = 100 * received // max(1, total)
        if percent >= printed.get(file, -25) + 25 or received == total:
            printed[file] = percent
            echo(f"{file}: {percent}% of {total:,} bytes", error=as_json)

    folder = download(name, output, base_url=base_url, progress=progress)
    if as_json:
        write_result("data fetch", {"name": name, "folder": folder})
        return
    echo(f"{name}: complete and verified, in {folder}")
    if output is not None:
        echo(f"Studies find it with PARETUNE_HOME={output}, or source: {folder}.")


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
    from paretune.data.sources.samples import copy_sample

    files = copy_sample(name, output or Path(name))
    if as_json:
        write_result("data sample", {"name": name, "files": files})
        return
    for path in files:
        echo(f"Written: {path}")
    echo(f"Next: paretune new {next(path for path in files if path.stem == 'train')}")
