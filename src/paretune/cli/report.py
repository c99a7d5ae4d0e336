"""``paretune report``: the comparison on the terminal, and one page in a file. Needs no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.cli.options import StoreFolder, StudyName
from paretune.cli.overrides import Overrides, overridden
from paretune.terminal import console

if TYPE_CHECKING:
    from paretune.verbs.report import Gathered


def report(
    study: StudyName,
    overrides: Overrides = None,
    store: StoreFolder = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the page. [default: STORE/report.html]"),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write the figures here: PNG, SVG and PDF."),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the tables here: LaTeX, Markdown, CSV, Parquet."
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the whole study here, as JSON."),
    ] = None,
) -> None:
    """Show what a study has found so far, and write it as a page.

    Works while the study runs, and on a machine without torch or models.
    """
    from paretune.verbs.report import gather

    show(
        gather(overridden(study, overrides), store), page, figures=figures, tables=tables, json=json
    )


def show(found: Gathered, page: Path | None = None, **more: Path | None) -> None:
    """Print the comparison and write the page and, where wanted, what else ``write`` can."""
    from paretune.report.table import terminal
    from paretune.verbs.report import write

    out = console()
    terminal(found.study, found.records, found.states, out, found.findings)
    if page is None and os.access(found.folder, os.W_OK):
        page = found.folder / "report.html"
    if page is None:
        out.print("No page: the store may only be read. `--page FILE` writes it elsewhere.")
    for name, path in write(found, page, **more):
        out.print(f"{name}: {path}", soft_wrap=True)
