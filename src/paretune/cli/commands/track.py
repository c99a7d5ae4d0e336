"""``paretune track``: mirror a study's store into an experiment tracker. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson, StoreFolder, StudyArguments, with_option_groups
from paretune.errors import StudyError
from paretune.terminal import echo

POLL_SECONDS = 5.0


@with_option_groups
def track(
    study: StudyArguments,
    to: Annotated[
        Literal["tensorboard", "wandb", "mlflow", "trackio"],
        typer.Option(help="The tracker; its package is installed apart.", show_default=False),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder to mirror into; for mlflow also a server's address.",
            show_default=False,
        ),
    ],
    store: StoreFolder = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Continue until the study is done, or Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.2, help="With --follow: polling interval. [default: 5]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy results into an experiment tracker.

    Settings, curves, scores and costs. The store is only read; what the tracker has already is left
    alone, so the command may be repeated. Runs are mirrored when they have ended. Nothing is sent
    anywhere, except to an address that --output names.
    """
    from paretune.contrib.trackers.mirror import TrackResult, follow_study
    from paretune.contrib.trackers.mirror import track as mirror

    def show(result: TrackResult) -> None:
        if as_json:
            fields = {"tracker": to, "output": output, "new": result.new, "there": result.there}
            write_result("track", fields)
        else:
            echo(f"{result.new} mirrored, {result.there} there before; {to} in {output}")

    if every is not None and not follow:
        raise StudyError("needs --follow.", where="--every", remedy="Add --follow.")
    if not follow:
        show(mirror(study.load(), to=to, output=output, store=store))
        return
    try:
        for result in follow_study(
            study.load(), to=to, output=output, store=store, every=every or POLL_SECONDS
        ):
            show(result)
    except KeyboardInterrupt:
        echo("Stopped following; the same command continues.")
