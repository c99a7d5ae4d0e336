"""``paretune run``: train what is missing, measure it, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from paretune.cli import study_files


def run(
    study: Annotated[str, typer.Argument(help="a study file, or the name of a shipped one")],
    store: Annotated[
        Path | None, typer.Option(help="folder of the results (default: studies/NAME)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes that train at the same time")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of each worker")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU")] = "auto",
    online: Annotated[bool, typer.Option(help="models and data may come from the hub")] = False,
    retry: Annotated[bool, typer.Option(help="try runs again that stopped with an error")] = False,
    report: Annotated[bool, typer.Option(help="show and write the comparison at the end")] = True,
) -> None:
    """Run a study, or go on with it: what is done stays done."""
    from paretune.cli import report as reporting
    from paretune.errors import RunsFailedError
    from paretune.execution.local import run_study
    from paretune.execution.progress import observing
    from paretune.planning import opening
    from paretune.store import Store

    asked, text = study_files.load(study)
    folder = study_files.store_folder(asked, store)
    device = opening.chosen_device(device)
    with Store.open(folder, create=True) as opened:
        context = opening.context(opened, device, offline=not online)
        for finding in opening.audited(asked, context):
            sys.stdout.write(f"{finding.severity}: {finding}\n")
        opened.save_study(asked.study_hash, asked.study, text, asked.canonical())

        def expand() -> int:
            return opening.add_missing(asked, context, opened)

        expand()
        if retry:
            opened.retry(asked.study_hash)
        context.bench.drop_model()
        count = workers or opening.usable_workers(device, threads)
        sys.stdout.write(
            f"{len(opened.states(asked.study_hash))} runs planned so far, {count} workers with "
            f"{threads} thread(s) on {device}, {context.precision}; results in {folder}\n"
        )
        with observing(sys.stdout) as observer:
            summary = run_study(
                opened,
                asked.study_hash,
                workers=count,
                threads=threads,
                observer=observer,
                expand=expand,
                device=device,
            )
    if report:
        reporting.report(study, store=store)
    if summary.failed:
        names = "\n".join(f"  {state.run_id}: {state.message}" for state in summary.failed)
        raise RunsFailedError(
            f"{len(summary.failed)} runs stopped with an error:\n{names}\n",
            remedy="`paretune run --retry` tries them again.",
        )
