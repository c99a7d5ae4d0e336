"""``paretune run``: train what is missing, measure it, report."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.cli.json_output import check_json_output, run_fields, write_result
from paretune.cli.options import (
    AsJson,
    Device,
    JsonFile,
    Online,
    StoreFolder,
    StudyName,
    Threads,
    Workers,
)
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import error_stream


def run(
    study: StudyName,
    overrides: Overrides = None,
    store: StoreFolder = None,
    workers: Workers = None,
    threads: Threads = 1,
    device: Device = "auto",
    online: Online = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try runs again that stopped with an error.")
    ] = False,
    fleet: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many runs of one method train together; 1: each alone. [default: 8 "
            "where that is faster on a CPU, 1 on a GPU]",
        ),
    ] = None,
    report: Annotated[bool, typer.Option(help="Show and write the comparison at the end.")] = True,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Run a study, or go on with it: what is done stays done.

    After Ctrl-C, a crash or a power cut, the same command continues. Several processes may work
    on one study at once.
    """
    from paretune.cli.commands.report import show_report, study_command
    from paretune.errors import RunsFailedError
    from paretune.execution.progress.observer import open_observer
    from paretune.verbs.report import load_results
    from paretune.verbs.run import run as go

    check_json_output(as_json, output)
    with open_observer(error_stream() if as_json else None) as observer:
        ran = go(
            load_overridden(study, overrides),
            store=store,
            workers=workers,
            threads=threads,
            device=device,
            online=online,
            retry=retry,
            fleet=fleet,
            observer=observer,
        )
    if as_json:
        lost = [
            {**run_fields(s.run), "run_id": s.run_id, "message": s.message}
            for s in ran.summary.failed
        ]
        ended = sum(ran.summary.outcomes.values())
        told = {"study": ran.study.study, "folder": ran.folder, "ended": ended, "failed": lost}
        write_result("run", told, output)
    elif report:
        show_report(load_results(ran.study, ran.folder), study_command(study, overrides, store))
    if ran.summary.failed:
        names = "\n".join(f"  {state.run_id}: {state.message}" for state in ran.summary.failed)
        raise RunsFailedError(
            f"{len(ran.summary.failed)} runs stopped with an error:\n{names}\n",
            remedy="`paretune run --retry` tries them again.",
        )
