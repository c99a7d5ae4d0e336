"""``paretune merge``: the ended runs of several stores in one. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson, with_option_groups
from paretune.terminal import echo, sanitise_line


@with_option_groups
def merge(
    stores: Annotated[
        list[Path],
        typer.Argument(metavar="STORE...", help="Folders of results.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The merged results; may exist.",
            show_default=False,
        ),
    ],
    keep_own: Annotated[
        bool,
        typer.Option(
            "--keep-own", help="Where results of a run differ, keep the one that is there."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the results of several machines together.

    Each run that has ended is taken once.
    """
    from paretune.terminal.plural import pluralise
    from paretune.verbs.merge import merge as merge_stores

    results = merge_stores(stores, output, keep_own=keep_own)
    if as_json:
        write_result("merge", {"folder": output, "stores": results})
        return
    for one in results:
        parts = [f"{pluralise(one.added, 'run')} added"]
        if one.present:
            parts.append(f"{one.present} already there")
        if one.own:
            parts.append(f"{one.own} with another result, not added")
        if one.running:
            parts.append(f"{one.running} left to the worker that executes them")
        echo(f"{sanitise_line(one.folder)}: {', '.join(parts)}")
    echo(f"Results: {sanitise_line(output)}; `paretune run STUDY --store` it does what is missing.")
