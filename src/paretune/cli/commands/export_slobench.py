"""``paretune export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import run_fields, write_result
from paretune.cli.options import AsJson, Online, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden
from paretune.data.finding import MAX_SHOWN
from paretune.terminal import echo, sanitise_line


def export_slobench(
    study: StudyName,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Made anew. [default: exports/STUDY/slobench]"
        ),
    ] = None,
    store: StoreFolder = None,
    release: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="SuperGLUE's qa_test.zip or a folder with it. [default: where the tasks' data is]",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of a translation: what SloBench wants translated, a line each."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The translation that it belongs to, of several.")
    ] = None,
    train_again: Annotated[
        bool, typer.Option("--train-again", help="Where weights were too large to keep.")
    ] = False,
    online: Online = False,
    as_json: AsJson = False,
) -> None:
    """Answer SloBench's test rows with the best run of each task, into a zip to hand in.

    The best by the selection part, never by test labels. What was written is read back and checked
    as `paretune slobench check` does.
    """
    from paretune.contrib.slobench.export_submission import export_slobench as write

    done = write(
        load_overridden(study, overrides),
        to=output, store=store, release=release, source=source, task=task,
        train_again=train_again, online=online,
        tell=lambda said: echo(sanitise_line(said), error=as_json),
    )  # fmt: skip
    if as_json:
        parts = [
            {
                **{name: getattr(part, name) for name in ("name", "file", "rows", "notes")},
                "run": run_fields(part.by.record.run),
            }
            for part in done.parts
        ]
        told = {"folder": done.folder, "parts": parts, "warnings": done.warnings}
        write_result("export slobench", told)
        return
    for part in done.parts:
        run = part.by.record.run
        echo(sanitise_line(f"{part.name}: seed {run.seed}, selection score {part.quality}."))
        for note in part.notes[:MAX_SHOWN]:
            echo(f"  {sanitise_line(note)}")
        if len(part.notes) > MAX_SHOWN:
            echo(f"  {len(part.notes) - MAX_SHOWN} more are in the README.")
    for finding in done.warnings:
        echo(f"{finding.severity}: {sanitise_line(finding)}")
    for file in dict.fromkeys(part.file for part in done.parts):
        rows = sum(part.rows for part in done.parts if part.file == file)
        path = done.folder / file
        echo(f"Ready to be handed in: {path} ({rows:,} rows, read back).")
    echo(f"Which run answered what: {done.folder / 'README.md'}")
