"""``paretune export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import run_fields, write_result
from paretune.cli.options import (
    AsJson,
    Online,
    StoreFolder,
    StudyArguments,
    TrainAgain,
    with_option_groups,
)
from paretune.data.finding import MAX_SHOWN
from paretune.terminal import echo, sanitise_line


@dataclass(frozen=True)
class SubmissionSources:
    """What is to be answered or translated."""

    release: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="SuperGLUE's qa_test.zip or a folder with it. [default: where the tasks' data is]",
        ),
    ] = None
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of a translation: what SloBench wants translated, one sentence a line.",
        ),
    ] = None
    task: Annotated[
        str | None, typer.Option(help="The translation that it belongs to, of several.")
    ] = None


@with_option_groups
def export_slobench(
    study: StudyArguments,
    sources: SubmissionSources,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="A new folder. [default: exports/STUDY/slobench]",
        ),
    ] = None,
    store: StoreFolder = None,
    train_again: TrainAgain = False,
    online: Online = False,
    as_json: AsJson = False,
) -> None:
    """Write a submission to SloBench.

    Each task's test rows are answered by its best run: by the selection part, never by test labels.
    What was written is read back and checked as `paretune slobench check` does.
    """
    from paretune_slovene.slobench.export_submission import export_slobench as export_submission

    result = export_submission(
        study.load(),
        output=output,
        store=store,
        train_again=train_again,
        online=online,
        tell=lambda text: echo(sanitise_line(text), error=as_json),
        **vars(sources),
    )
    if as_json:
        parts = [
            {
                "name": part.name,
                "file": part.file,
                "rows": part.rows,
                "notes": part.notes,
                "run": run_fields(part.by.record.run),
            }
            for part in result.parts
        ]
        fields = {"folder": result.folder, "parts": parts, "warnings": result.warnings}
        write_result("export slobench", fields)
        return
    for part in result.parts:
        run = part.by.record.run
        echo(sanitise_line(f"{part.name}: seed {run.seed}, selection score {part.quality}."))
        for note in part.notes[:MAX_SHOWN]:
            echo(f"  {sanitise_line(note)}")
        if len(part.notes) > MAX_SHOWN:
            echo(f"  {len(part.notes) - MAX_SHOWN} more are in the README.")
    for finding in result.warnings:
        echo(f"{finding.severity}: {sanitise_line(finding)}")
    for file in dict.fromkeys(part.file for part in result.parts):
        rows = sum(part.rows for part in result.parts if part.file == file)
        echo(f"Ready to be handed in: {result.folder / file} ({rows:,} rows, read back).")
    echo(f"Which run answered what: {result.folder / 'README.md'}")
