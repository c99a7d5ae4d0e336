"""``paretune report``: the comparison on the terminal, and one page in a file. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli import study_files


def report(
    study: Annotated[str, typer.Argument(help="a study file, or the name of a shipped one")],
    store: Annotated[
        Path | None, typer.Option(help="folder of the results (default: studies/NAME)")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="also write the figures as PNG and SVG into this folder")
    ] = None,
) -> None:
    """Show what a study has found so far, and write the page beside its results."""
    from rich.console import Console

    from paretune import report as room
    from paretune.cli.findings import findings
    from paretune.errors import StoreError
    from paretune.store import Store

    asked, _ = study_files.load(study)
    folder = study_files.store_folder(asked, store)
    with Store.open(folder) as opened:
        states = opened.states(asked.study_hash)
        if not states:
            raise StoreError(
                f"study {asked.study} as it is now has no runs here.",
                where=str(folder),
                remedy="`paretune run` makes them; an edited study file is a new study.",
            )
        records = opened.records(asked.study_hash, predictions=True)
        found = findings(opened, asked.study_hash)
    console = Console()
    room.terminal(asked, records, states, console)
    page = room.html(asked, records, states, folder / "report.html", findings=found)
    console.print(f"Page: {page}", soft_wrap=True, highlight=False)
    if figures is not None:
        for path in room.figures(asked, records, states, figures):
            console.print(f"Figure: {path}", soft_wrap=True, highlight=False)
