"""``paretune work``: execute runs of a study that is served, or that a bundle brought."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import JsonOptions, WorkerOptions, with_option_groups
from paretune.errors import INTERRUPTED, StudyError
from paretune.terminal import echo, error_stream, sanitise_line

if TYPE_CHECKING:
    from paretune.verbs.work import WorkResult


@with_option_groups
def work(
    workers: WorkerOptions,
    json: JsonOptions,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of `paretune serve`, as it prints it."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With the server's token; only you may read it."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `paretune pack`, where no server can be reached."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0,
            help="End after so many, and before where no other run would end in time.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Where this machine has a model of the study, if not under its name.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Of this machine: for checkpoints and data; of a bundle, for its results. "
            "[default: in $PARETUNE_HOME; of a bundle, beside it]",
        ),
    ] = None,
    fleet: Annotated[
        int | None,
        typer.Option(min=1, help="How many runs train together at most, as of `paretune run`."),
    ] = None,
) -> None:
    """Execute runs for a study elsewhere, until none is left or the time does not suffice.

    Takes runs from `paretune serve` (--server), or from a file of `paretune pack` (--bundle). At
    Ctrl-C, SIGTERM or SIGUSR1 what is in hand is given back with its checkpoint.
    """
    from paretune.execution.progress.observer import open_observer
    from paretune.verbs.work import work as work_for
    from paretune.verbs.work_bundle import work_bundle

    if (server is None) == (bundle is None):
        raise StudyError(
            "give one of --server and --bundle.",
            where="work",
            remedy="`paretune serve` prints the first, `paretune pack` writes the second.",
        )
    with open_observer(error_stream() if json.as_json else None) as observer:
        shared: dict[str, Any] = {"folder": folder, "minutes": minutes, "fleet": fleet}
        shared |= {"models": _parse_models(model or []), "observer": observer, **vars(workers)}
        if bundle is not None:
            result = work_bundle(bundle, **shared)
        elif token_file is None:
            raise StudyError(
                "needs --token-file.",
                where="--server",
                remedy="Copy the file that `paretune serve` names to this machine.",
            )
        else:
            result = work_for(str(server), token_file=token_file, **shared)
    if json.as_json:
        write_result("work", vars(result), json.output)
    else:
        _show(result, bundle)
    if result.left:
        raise typer.Exit(INTERRUPTED)


def _show(result: WorkResult, bundle: Path | None) -> None:
    from paretune.reporting.text.formatting import pluralise

    left = f"; {pluralise(result.left, 'run')} left" if result.left else ", none left"
    echo(f"{sanitise_line(result.study)}: {pluralise(result.ended, 'run')} ended meanwhile{left}.")
    if bundle is not None:
        where = sanitise_line(result.folder)
        echo(f"Results: {where}; where the study is: paretune merge {where} -o its folder")


def _parse_models(options: list[str]) -> dict[str, str]:
    models = {}
    for option in options:
        name, equals, place = option.rpartition("=")
        if not (name and equals and place):
            raise StudyError(
                "is not NAME=FOLDER.", where=f"--model {option}", remedy="Write both of them."
            )
        models[name] = place
    return models
