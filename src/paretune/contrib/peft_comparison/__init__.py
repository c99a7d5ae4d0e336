"""``peft-results``: peft's own method_comparison, with intervals and tests. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.verbs.options import File, Folder
from paretune.verbs.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from paretune.reporting.parts import Table


@dataclass(frozen=True, repr=False)
class PeftComparison(Result):
    """Every experiment compared with the best of its model, and the conclusions.

    Attributes:
        table: a row for each experiment; its notes are the conclusions.
        files: that were written, each with what it is.
    """

    table: Table
    files: tuple[tuple[str, Path], ...]

    def to_json(self) -> dict[str, Any]:
        """``sentences``: what follows; ``titles`` of the columns; ``rows``: each as texts."""
        from paretune.reporting.tables import format_rows

        return {
            "sentences": list(self.table.notes),
            "titles": [column.heading for column in self.table.columns],
            "rows": format_rows(self.table),
        }

    def describe(self) -> Iterable[RenderableType]:
        """The table with its notes, and the files."""
        from paretune.reporting.text.terminal import TableLayout

        yield TableLayout(self.table)
        for name, path in self.files:
            yield f"{name}: {path}"


def peft_results(
    folder: Annotated[Path | str, typer.Argument(metavar="FOLDER")],
    *,
    examples: Annotated[int | None, typer.Option(metavar="N")] = None,
    tables: Folder | None = None,
    page: File | None = None,
) -> PeftComparison:
    """Judge the published results of peft's comparison.

    Accuracy with its interval beside memory, time and size, as the files have them.

    Args:
        folder: Result files of peft's method_comparison (*.json), or all of that folder.
        examples: Test examples that each accuracy is a share of.
        tables: Also write the table here: LaTeX, Markdown, CSV, Parquet.
        page: Also write a page: every accuracy with its interval.

    Raises:
        DataError: there are no result files, one is no JSON, or ``examples`` cannot give an
            accuracy.
        StudyError: ``examples`` is missing, or under 1.
    """
    from paretune.contrib.peft_comparison.experiments import judge_folder, render_page
    from paretune.reporting.document import write_file
    from paretune.reporting.table_files import write_table

    models, table = judge_folder(folder, examples)
    files = [("Table", path) for path in write_table(table, Path(tables))] if tables else []
    if page is not None:
        files.append(("Page", write_file(Path(page), render_page(models, table), "the page")))
    return PeftComparison(table, tuple(files))
