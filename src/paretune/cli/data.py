"""``paretune data fetch``: pinned public data, checked, into the cache."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Data sets that paretune can fetch.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Data sets that paretune can fetch."""


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="superglue-sl")],
    to: Annotated[
        Path | None, typer.Option(help="folder for data (default: $PARETUNE_HOME or the cache)")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="a mirror that holds the same files")] = None,
) -> None:
    """Download a pinned data set; what is there and right stays, what broke off goes on."""
    from paretune.data.fetch import fetch as download

    shown: dict[str, int] = {}

    def progress(file: str, held: int, total: int) -> None:
        percent = 100 * held // max(1, total)
        if percent >= shown.get(file, -25) + 25 or held == total:
            shown[file] = percent
            sys.stdout.write(f"{file}: {percent}% of {total:,} bytes\n")

    folder = download(name, to, base_url=base_url, progress=progress)
    sys.stdout.write(f"{name}: complete and checked, in {folder}\n")
