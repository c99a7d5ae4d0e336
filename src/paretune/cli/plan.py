"""``paretune plan``: every run with its predicted time and memory, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli import study_files


def plan(
    study: Annotated[str, typer.Argument(help="a study file, or the name of a shipped one")],
    store: Annotated[
        Path | None, typer.Option(help="folder of the results (default: studies/NAME)")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="as for paretune run")] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of each worker")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "auto",
    online: Annotated[bool, typer.Option(help="models and data may come from the hub")] = False,
    every: Annotated[bool, typer.Option(help="a line for every run, not for every cell")] = False,
) -> None:
    """Show what a study would run, how long it would take, and what it would need."""
    from rich.console import Console
    from rich.table import Table

    from paretune.execution.wording import duration
    from paretune.measuring.machine import speed
    from paretune.planning import opening
    from paretune.planning.predict import Predictor
    from paretune.planning.upcoming import upcoming
    from paretune.report.words import size
    from paretune.store import Store

    asked, _ = study_files.load(study)
    folder = study_files.store_folder(asked, store)
    device = opening.chosen_device(device)
    with Store.open(folder, create=True) as opened:
        context = opening.context(opened, device, offline=not online)
        records = opened.records(asked.study_hash, predictions=True)
        ended = {record.run_id for record in records}
    ready, waiting = upcoming(asked, context, records)
    predictor = Predictor(context, opening.matrix_speed(speed(), context.precision), records)
    table = Table("task", "model", "method", "stage", "runs", "done", "time each", "peak memory")
    left = 0.0
    rows: dict[tuple[str, ...], list[tuple[bool, float, int | None]]] = {}
    runs = [(p.run_id in ended, p.run) for p in ready] + [(False, run) for run in waiting]
    for number, (done, run) in enumerate(runs):
        expected = predictor.predict(run)
        rate = "" if run.learning_rate is None else f" rate {run.learning_rate:g} seed {run.seed}"
        one = (f"{run.stage}{rate} fold {run.fold}", str(number)) if every else (run.stage,)
        key = (*run.cell, *one)
        rows.setdefault(key, []).append((done, expected.seconds, expected.peak_bytes))
        left += 0.0 if done else expected.seconds
    for key, found in rows.items():
        peak = max((p for _, _, p in found if p is not None), default=None)
        table.add_row(
            *key[:4],
            str(len(found)),
            str(sum(done for done, _, _ in found)),
            duration(sum(s for _, s, _ in found) / len(found)),
            "-" if peak is None else size(peak),
        )
    console = Console()
    console.print(table)
    count = workers or opening.usable_workers(device, threads)
    console.print(
        f"{len(runs)} runs, {sum(done for done, _ in runs)} done; about {duration(left / count)} "
        f"left with {count} workers of {threads} thread(s) on {device} in {context.precision}. "
        f"A prediction: early stopping makes it less, a busy machine more. Basis: "
        f"{predictor.predict(runs[-1][1]).basis}.",
        highlight=False,
    )
