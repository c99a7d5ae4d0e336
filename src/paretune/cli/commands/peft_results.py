"""``paretune peft-results``: peft's method_comparison with intervals. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import write_result
from paretune.cli.options import JsonOptions, with_option_groups
from paretune.terminal import console

WIDE = 120
"""Columns of a terminal that has room for costs beside the verdicts."""


@with_option_groups
def peft_results(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Result files of peft's method_comparison (*.json), or all of that folder.",
            show_default=False,
        ),
    ],
    json: JsonOptions,
    examples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Test examples that each accuracy is a share of."),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the table here: LaTeX, Markdown, CSV, Parquet."
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a page: every accuracy with its interval."),
    ] = None,
) -> None:
    """Judge the published results of peft's comparison.

    Accuracy with its interval beside memory, time and size, as the files have them.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from paretune.contrib.peft_comparison.experiment_table import peft_results as read_results
    from paretune.contrib.peft_comparison.experiment_table import write_peft_page
    from paretune.reporting.tables.table_files import write_table

    results = read_results(folder, examples)
    if page is not None:
        write_peft_page(results, page)
    written = write_table(results.table, tables) if tables else ()
    if json.as_json:
        table = {"titles": results.table.titles, "rows": results.table.texts}
        write_result("peft-results", {"sentences": results.sentences, **table}, json.output)
        return
    out = console()
    table_view = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    columns = slice(None if out.width >= WIDE else 3)
    for title in results.table.titles[columns]:
        table_view.add_column(title, overflow="fold", no_wrap=title.startswith("accuracy"))
    for texts in results.table.texts:
        table_view.add_row(*map(Text, texts[columns]))
    out.print(table_view)
    if out.width < WIDE:
        out.print(f"Memory, time and size: on {WIDE} columns or more, or with --page or --tables.")
    for sentence in results.sentences:
        out.print(sentence)
    for path in written:
        out.print(f"Table: {path}", soft_wrap=True)
    if page is not None:
        out.print(f"Page: {page}", soft_wrap=True)
