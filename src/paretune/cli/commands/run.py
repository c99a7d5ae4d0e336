"""``paretune run``: train what is missing, measure it, report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.cli.json_output import run_fields, write_result
from paretune.cli.options import (
    JsonOptions,
    Quiet,
    StoreFolder,
    StudyArguments,
    WorkerOptions,
    with_option_groups,
)
from paretune.terminal import echo, error_stream
from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from paretune.store import RunStatus
    from paretune.verbs.run import RunResult


@with_option_groups
def run(
    study: StudyArguments,
    workers: WorkerOptions,
    json: JsonOptions,
    store: StoreFolder = None,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="Try runs again that failed, did not fit in memory, or have damaged files.",
        ),
    ] = False,
    fleet: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many runs of one method train together at most; 1: each alone. [default: 8 "
            "where that is faster on a CPU, 1 on a GPU]",
        ),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What executes the runs: local, processes of this machine; or ray, tasks on a "
            "Ray cluster (docs/how-it-works/cluster.md).",
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Head of the Ray cluster. [default: the cluster of this machine]",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Stop after 30min: runs that tell most per second come first, and the same "
            "command continues. [default: protocol.budget]",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Run one of N shares, whole cells, into studies/NAME-shard-I-of-N or --store; "
            "`paretune merge` joins them (docs/how-it-works/cluster.md).",
        ),
    ] = None,
    report: Annotated[bool, typer.Option(help="Show and write the comparison at the end.")] = True,
    quiet: Quiet = False,
) -> None:
    """Run a study, or continue it.

    After Ctrl-C, a crash or a power cut, the same command continues. Several processes may work
    on one study at once.
    """
    from paretune.cli.commands.report import show_report
    from paretune.execution.progress import open_observer
    from paretune.verbs.report import load_results
    from paretune.verbs.run import run as run_study

    with open_observer(error_stream() if json.as_json else None, quiet=quiet) as observer:
        result = run_study(
            study.load(),
            store=store,
            retry=retry,
            fleet=fleet,
            executor=executor,
            address=address,
            budget=budget,
            shard=shard,
            observer=observer,
            **vars(workers),
        )
    if json.as_json:
        write_result("run", summary_fields(result), json.output)
    elif shard is not None:
        merged = f"studies/{result.study.study}"
        parts = f"{merged}-shard-*-of-{shard.partition('/')[2]}" if store is None else "STORES"
        echo(
            f"Share {shard}: {result.folder}. When all have ended: paretune merge {parts} --output "
            f"{merged}, then paretune run {study.as_typed()} measures the costs and reports."
        )
    elif report:
        built = load_results(result.study, result.folder).build_report()
        show_report(built, result.folder, study.as_typed(store), quiet=quiet)
    raise_if_failed(result.summary.failed)


def summary_fields(result: RunResult) -> dict[str, Any]:
    """What JSON has of a study that was executed."""
    return {
        "study": result.study.study,
        "folder": result.folder,
        "ended": sum(result.summary.outcomes.values()),
        "failed": [
            {**run_fields(one.run), "run_id": one.run_id, "message": one.message}
            for one in result.summary.failed
        ],
    }


def raise_if_failed(failed: Sequence[RunStatus]) -> None:
    """Raise where runs stopped with an error.

    Raises:
        RunsFailedError: it names them.
    """
    from paretune.errors import RunsFailedError

    if failed:
        names = "\n".join(f"  {one.run_id}: {one.message}" for one in failed)
        raise RunsFailedError(
            f"{pluralise(len(failed), 'run')} stopped with an error:\n{names}\n",
            remedy="The same command with --retry tries them again.",
        )
