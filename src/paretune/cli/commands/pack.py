"""``paretune pack``: runs in files, for machines that reach nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson, Online, StoreFolder, StudyArguments, with_option_groups
from paretune.terminal import echo, error_stream, sanitise_line


@with_option_groups
def pack(
    study: StudyArguments,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The bundle; of several, -1, -2 ... comes before its ending.",
            show_default=False,
        ),
    ],
    bundles: Annotated[
        int, typer.Option(metavar="N", min=1, help="Deal the runs out among so many bundles.")
    ] = 1,
    runs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="So many at most. [default: all]")
    ] = None,
    days: Annotated[
        float,
        typer.Option(metavar="N", help="How long the runs are kept for the bundles."),
    ] = 7.0,
    store: StoreFolder = None,
    online: Online = False,
    as_json: AsJson = False,
) -> None:
    """Write runs of a study into a file, with their data, for a machine that reaches nobody.

    There, `paretune work --bundle FILE` executes them; here, `paretune merge` takes what comes
    back. Until then nobody else executes them, for at most --days.
    """
    from paretune.execution.progress.observer import open_observer
    from paretune.reporting.text.formatting import pluralise
    from paretune.verbs.pack import pack as pack_study

    with open_observer(error_stream() if as_json else None) as observer:
        packed = pack_study(
            study.load(),
            output,
            bundles=bundles,
            runs=runs,
            days=days,
            store=store,
            online=online,
            observer=observer,
        )
    if as_json:
        write_result("pack", {"bundles": packed})
        return
    if not packed:
        echo("No run can be packed now: all have ended, or others hold them.")
        return
    for one in packed:
        echo(f"{sanitise_line(one.file)}: {pluralise(one.runs, 'run')}")
    echo("On a machine with the same paretune and models: paretune work --bundle FILE")
