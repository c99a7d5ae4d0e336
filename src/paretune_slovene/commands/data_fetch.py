"""``paretune data fetch``: download pinned public data into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson
from paretune.terminal import echo


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

    Every file is compared with its SHA-256. Complete files stay.
    """
    from paretune_slovene.download import download_collection

    printed: dict[str, int] = {}

    def progress(file: str, received: int, total: int) -> None:
        percent = 100 * received // max(1, total)
        if percent >= printed.get(file, -25) + 25 or received == total:
            printed[file] = percent
            echo(f"{file}: {percent}% of {total:,} bytes", error=as_json)

    folder = download_collection(name, output, base_url=base_url, progress=progress)
    if as_json:
        write_result("data fetch", {"name": name, "folder": folder})
        return
    echo(f"{name}: complete and verified, in {folder}")
    if output is not None:
        echo(f"Studies find it with PARETUNE_HOME={output}, or source: {folder}.")
