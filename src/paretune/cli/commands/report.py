"""``paretune report``: the comparison on the terminal, and one page in a file. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.cli.options import AsJson, Quiet, StoreFolder, StudyArguments, with_option_groups
from paretune.terminal import console, echo, echo_json

if TYPE_CHECKING:
    from paretune.reporting.model import Report


@dataclass(frozen=True)
class ReportFiles:
    """Files and folders that are written beside what is printed."""

    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the page. [default: STORE/report.html]"),
    ] = None
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the result as a picture for links: PNG or SVG, 1,200 x 630.",
        ),
    ] = None
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write the figures here: PNG, SVG and PDF."),
    ] = None
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the tables here: LaTeX, Markdown, CSV, Parquet."
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The page; with --json, the JSON instead."
        ),
    ] = None


@with_option_groups
def report(
    study: StudyArguments,
    files: ReportFiles,
    store: StoreFolder = None,
    as_json: AsJson = False,
    details: Annotated[
        bool, typer.Option("--details", help="Every table, in place of the first screen.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Show the results of a study, and write a page.

    Works while the study runs, and on a machine without torch or models.
    """
    from paretune.errors import StudyError
    from paretune.reporting.json.study_json import build_study_json
    from paretune.verbs.report import load_results, write_outputs

    if details and (quiet or as_json):
        raise StudyError(
            f"shows nothing beside {'--json' if as_json else '--quiet'}.",
            where="--details",
            remedy="Leave out one of them.",
        )
    if files.page and files.output and not as_json:
        raise StudyError("--page and --output both name the page.", remedy="Leave out one of them.")
    results = load_results(study.load(), store)
    built = results.build_report()
    outputs = {"card": files.card, "figures": files.figures, "tables": files.tables}
    if not as_json:
        page = files.page or files.output
        typed = study.as_typed(store)
        show_report(built, results.folder, typed, page, details=details, quiet=quiet, **outputs)
        return
    if files.output is None:
        echo_json(build_study_json(built))
    written = write_outputs(built, files.page, json=files.output, **outputs)
    for name, path in () if quiet else written:
        echo(f"{name}: {path}", error=True)


def show_report(
    report: Report,
    folder: Path,
    study: str,
    page: Path | None = None,
    *,
    details: bool = False,
    quiet: bool = False,
    **more: Path | None,
) -> None:
    """Print the first screen, or all tables; write the page and the other outputs.

    Args:
        folder: of the results; the page is written there by default.
        quiet: print one line a task instead, and not what was written.
    """
    from paretune.reporting.text.terminal_screen import print_headlines, print_screen
    from paretune.reporting.text.terminal_tables import print_tables
    from paretune.verbs.report import write_outputs

    out = console()
    if quiet:
        print_headlines(report, out)
    elif details:
        print_tables(report, out)
    else:
        print_screen(report, out, study)
    if page is None and os.access(folder, os.W_OK):
        page = folder / "report.html"
    if page is None and not quiet:
        out.print("No page: the store may only be read. `--page FILE` writes it elsewhere.")
    written = write_outputs(report, page, **more)
    for name, path in () if quiet else written:
        out.print(f"{name}: {path}", soft_wrap=True)
