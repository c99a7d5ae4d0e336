"""``paretune tune``: from a data file to an exported adapter, in one command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.commands.new import ColumnOptions
from paretune.cli.commands.report import show_report
from paretune.cli.json_output import write_result
from paretune.cli.options import AsJson, Quiet, WorkerOptions, with_option_groups
from paretune.errors import RunsFailedError
from paretune.terminal import console, echo, error_stream
from paretune.terminal.plural import pluralise
from paretune.verbs.study_draft import DEFAULT_MODEL


@with_option_groups
def tune(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A data file (csv, tsv, jsonl, parquet).", show_default=False
        ),
    ],
    columns: ColumnOptions,
    workers: WorkerOptions,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"A hub name, a folder, or package:NAME. [default: {DEFAULT_MODEL}, English]",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="For all of it, from now: 30min. Every method gets a first score before any gets "
            "further seeds; at the end it says what more time would bring.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Peak memory in training: 4GiB.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The export. [default: exports/STUDY/...]"
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Write the study file anew; the old one is kept beside it."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on a data file, and export the best.

    Guesses columns and labels and says what it guessed (as `new`), trains and measures (as `run`),
    answers (as `recommend`) and writes the adapter (as `export`). The study file that it writes can
    be read, changed and run again. The same command continues, and refuses what contradicts it.
    """
    from paretune.execution.progress import open_observer
    from paretune.verbs.report import load_results
    from paretune.verbs.tune import Columns
    from paretune.verbs.tune import tune as tune_data

    named = columns.named_columns()

    def tell(sentence: str) -> None:
        if not quiet:
            echo(sentence, error=as_json)

    with open_observer(error_stream() if as_json else None, quiet=quiet) as observer:
        result = tune_data(
            data,
            model=model,
            columns=Columns(
                label=named.label,
                text=named.text,
                pair=named.pair,
                source=named.source,
                target=named.target,
            ),
            test=columns.test,
            drop_unlabelled=columns.drop_unlabelled,
            budget=budget,
            max_memory=max_memory,
            output=output,
            restart=restart,
            observer=observer,
            tell=tell,
            **vars(workers),
        )
    folder = None if result.exported is None else result.exported.folder
    if as_json:
        fields = {"file": result.file, "advice": result.advice, "folder": folder}
        write_result("tune", {**fields, "notes": result.notes})
    else:
        advice = result.advice
        if quiet:
            echo(advice.lines[0])
        else:
            built = load_results(result.study, None).build_report()
            show_report(built, result.run.folder, str(result.file))
            if max_memory is not None:  # the lines above know no limit
                echo("\n".join([f"Within {max_memory}:", *advice.lines, *advice.warnings]))
        out = console()
        if result.exported is not None:
            out.print(f"Exported: {folder} ({result.exported.form})", soft_wrap=True)
            for line in result.exported.loading_lines:
                out.print(f"  {line}", soft_wrap=True)
        for note in result.notes:
            out.print(note, soft_wrap=True)
    if failed := result.run.summary.failed:
        raise RunsFailedError(
            f"{pluralise(len(failed), 'run')} stopped with an error.",
            remedy=f"`paretune run --retry {shlex.quote(str(result.file))}` tries them again.",
        )
