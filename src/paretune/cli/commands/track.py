"""``paretune track``: mirror a study's store into an experiment tracker. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import echo


def track(
    study: StudyName,
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
            help="Folder that it is mirrored into; for mlflow also a server's address.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    store: StoreFolder = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the study is done, or Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, help="With --follow: between two looks.")
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Mirror a study into an experiment tracker: settings, curves, scores, costs.

    The store stays the truth and is only read; what the tracker has already is left alone, so the
    command may be repeated. Runs are mirrored when they have ended. Nothing is sent anywhere, but
    to an address that --output names.
    """
    from paretune.contrib.trackers.mirror import TrackResult, follow_study
    from paretune.contrib.trackers.mirror import track as mirror

    def show(tracked: TrackResult) -> None:
        if as_json:
            write_result("track", {"tracker": to, "output": output, **vars(tracked)})
        else:
            echo(f"{tracked.new} mirrored, {tracked.there} there before; {to} in {output}")

    if not follow:
        show(mirror(load_overridden(study, overrides), to=to, into=output, store=store))
        return
    try:
        for tracked in follow_study(
            load_overridden(study, overrides), to=to, into=output, store=store, every=every
        ):
            show(tracked)
    except KeyboardInterrupt:
        echo("No longer followed; the same command goes on.")
