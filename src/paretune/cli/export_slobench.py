"""``paretune export slobench``: from a finished study to the files that SloBench takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import give, of_run
from paretune.cli.options import AsJson, Online, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, overridden
from paretune.data.finding import SHOWN
from paretune.terminal import plain, say


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
    from paretune.verbs.export_slobench import export_slobench as write

    done = write(
        overridden(study, overrides),
        to=output, store=store, release=release, source=source, task=task,
        train_again=train_again, online=online,
        tell=lambda said: say(plain(said), error=as_json),
    )  # fmt: skip
    if as_json:
        parts = [
            {
                **{name: getattr(part, name) for name in ("name", "file", "rows", "notes")},
                "run": of_run(part.by.record.run),
            }
            for part in done.parts
        ]
        told = {"folder": done.folder, "parts": parts, "warnings": done.warnings}
        give("export slobench", told)
        return
    for part in done.parts:
        run = part.by.record.run
        say(plain(f"{part.name}: seed {run.seed}, selection score {part.quality}."))
        for note in part.notes[:SHOWN]:
            say(f"  {plain(note)}")
        if len(part.notes) > SHOWN:
            say(f"  {len(part.notes) - SHOWN} more are in the README.")
    for finding in done.warnings:
        say(f"{finding.severity}: {plain(finding)}")
    for file in dict.fromkeys(part.file for part in done.parts):
        rows = sum(part.rows for part in done.parts if part.file == file)
        path = done.folder / file
        say(f"Ready to be handed in: {path} ({rows:,} rows, read back).")
    say(f"Which run answered what: {done.folder / 'README.md'}")
