"""``paretune report``: the comparison on the terminal, and one page in a file. Needs no torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.cli.options import AsJson, StoreFolder, StudyName
from paretune.cli.overrides import Overrides, load_overridden
from paretune.terminal import console, echo, echo_json

if TYPE_CHECKING:
    from paretune.verbs.report import StudyResults


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
    as_json: AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The page; with --json, the JSON instead."
        ),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Every table, in place of the first screen.")
    ] = False,
) -> None:
    """Show what a study has found so far, and write it as a page.

    Works while the study runs, and on a machine without torch or models.
    """
    from paretune.reporting.build import build_report
    from paretune.reporting.json.study_json import build_study_json
    from paretune.verbs.report import load_results, write_outputs

    found = load_results(load_overridden(study, overrides), store)
    more = {"figures": figures, "tables": tables}
    if not as_json:
        named = study_command(study, overrides, store)
        show_report(found, named, page or output, details=details, **more)
        return
    if output is None:
        given = (found.study, found.records, found.states, found.findings)
        echo_json(build_study_json(found.study, build_report(*given)))
    for name, path in write_outputs(found, page, json=output, **more):
        echo(f"{name}: {path}", error=True)


def study_command(study: str, overrides: Sequence[str] | None, store: Path | None) -> str:
    """A study as the user names it on the command line, for commands that are printed."""
    where = [] if store is None else ["--store", str(store)]
    return shlex.join([study, *(overrides or ()), *where])


def show_report(
    found: StudyResults,
    study: str,
    page: Path | None = None,
    *,
    details: bool = False,
    **more: Path | None,
) -> None:
    """Print the answer, or all tables; write the page and, where wanted, what else ``write`` can.

    Args:
        found: what the report is made of.
        study: how the user calls the study.
        page: where to write the page, if not beside the results.
        details: print every table in place of the first screen.
        more: ``figures``, ``tables``, ``json``: where to write them.
    """
    from paretune.reporting.build import build_report
    from paretune.reporting.text.terminal_screen import print_screen
    from paretune.reporting.text.terminal_tables import print_tables as tables
    from paretune.verbs.report import write_outputs
    from paretune.verbs.stored_findings import LOST_RUNS

    out = console()
    for finding in found.findings:
        if finding.code == LOST_RUNS:  # before the answer: it rests on fewer seeds
            out.print(f"{finding.severity}: {finding}")
    built = build_report(found.study, found.records, found.states, found.findings)
    if details:
        tables(built, out)
    else:
        print_screen(built, out, study)
    if page is None and os.access(found.folder, os.W_OK):
        page = found.folder / "report.html"
    if page is None:
        out.print("No page: the store may only be read. `--page FILE` writes it elsewhere.")
    for name, path in write_outputs(found, page, **more):
        out.print(f"{name}: {path}", soft_wrap=True)
