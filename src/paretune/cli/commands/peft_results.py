"""``paretune peft-results``: peft's method_comparison with intervals. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.cli.json_output import check_json_output, write_result
from paretune.cli.options import AsJson, JsonFile
from paretune.terminal import console


def peft_results(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Result files of peft's method_comparison (*.json).",
            show_default=False,
        ),
    ],
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
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Say which experiments of peft's comparison cannot be told apart from the best.

    Accuracy with its interval beside memory, time and size, as the files have them.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from paretune.contrib.peft_comparison.peft_results import peft_results as lay_over
    from paretune.reporting.tables.table_files import write_table

    check_json_output(as_json, output)
    found = lay_over(folder, examples)
    if as_json:
        table = {"titles": found.table.titles, "rows": found.table.texts}
        write_result("peft-results", {"sentences": found.sentences, **table}, output)
        return
    out = console()
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in found.table.titles:
        shown.add_column(title, overflow="fold", no_wrap=title.startswith("accuracy"))
    for texts in found.table.texts:
        shown.add_row(*map(Text, texts))
    out.print(shown)
    for sentence in found.sentences:
        out.print(sentence)
    for path in write_table(found.table, tables) if tables else ():
        out.print(f"Table: {path}", soft_wrap=True)
