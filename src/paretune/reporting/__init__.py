"""The report of a study: one document, then written in any form. No torch.

:func:`build.build_report` computes every statistic and returns a :class:`Report`, which is the
JSON: what is not there is null, NaN and infinity are never written, and the same records give the
same bytes. Renderers read only that: ``text.terminal``, ``page``, ``charts`` with
``figure_files``, and ``tables`` with ``table_files`` (CSV, LaTeX).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from pydantic import PrivateAttr, ValidationError

from paretune.errors import StoreError, StudyError, explain_missing, spell_option
from paretune.reporting.document import (
    FORMAT,
    Document,
    format_cell_score,
    list_rows,
    list_score_bases,
    write_file,
)
from paretune.reporting.figure_files import write_card, write_figures
from paretune.reporting.page import write_page
from paretune.reporting.table_files import read_values, write_tables
from paretune.reporting.tables import build_tables
from paretune.reporting.text.terminal import print_headlines, print_screen, print_tables
from paretune.terminal.notebook import html_block, html_lines, html_table
from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from rich.console import Console

_MOST_TASKS = 20
"""Lines of tasks in the text of a report."""


class Report(Document):
    """The document of a study as the value of the verb ``report``.

    Beside its fields it has the study as the user typed it, the folder of its results, and the
    files that it was written to.
    """

    failure: ClassVar[None] = None
    exit_code: ClassVar[int] = 0
    _typed: str = PrivateAttr("STUDY")
    _folder: Path | None = PrivateAttr(None)
    _written: list[tuple[str, Path]] = PrivateAttr(default_factory=list)

    def __repr__(self) -> str:
        """The name, and what to take on each task, on one screen."""
        scheduled = f", {self.study.waiting:,} scheduled" if self.study.waiting else ""
        runs = f"{pluralise(self.study.runs, 'run')} ended{scheduled}"
        lines = [task.advice.lines[0] for task in self.tasks if task.advice is not None]
        if len(lines) > _MOST_TASKS:
            left = pluralise(len(lines) - _MOST_TASKS, "more task")
            lines = [*lines[:_MOST_TASKS], f"... and {left}"]
        return "\n".join([*filter(None, [self.study.scope]), f"{self.study.name}: {runs}", *lines])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The first screen; the page has all of the report."""
        rows = list_rows(self.tasks)
        several = len({row.model for row in rows if row.has_model}) > 1
        with_memory = any(row.memory for row in rows)
        lines = [
            [
                *([row.model if row.has_model else ""] if several else []),
                row.method,
                *(f"{format_cell_score(cell)} {cell.signs}" if cell else "" for cell in row.cells),
                *([row.memory] if with_memory else []),
            ]
            for row in rows
        ]
        keys = [task.key for task in self.tasks]
        ends = ["peak memory"] if with_memory else []
        header = [*(["model"] if several else []), "method", *keys, *ends]
        legend = [
            ", ".join(f"{sign} {text}" for sign, text in self.signs.items()),
            *(f"Score: {basis}" for basis in list_score_bases(self.tasks)),
        ]
        advice = [html_block(task.advice.lines) for task in self.tasks if task.advice]
        # The lines of a single task begin with the sentence.
        sentence = [] if len(advice) == 1 else [self.sentence]
        return (
            html_lines(filter(None, [self.study.scope]))
            + html_lines(sentence, bold=True)
            + html_table(header, lines)
            + html_lines([". ".join(part for part in legend if part)])
            + "".join(advice)
        )

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each method and baseline, by task and model.

        Its columns are those of the files of scores and costs (``paretune report --tables``):
        ``task``, ``model``, ``method``, ``score`` with ``low`` and ``high`` (95 % interval), ``n``
        examples, ``seeds``, ``standing``, ``peak_bytes`` ... What is not known is missing.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        with explain_missing("pandas", "to_pandas"):
            import pandas
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for table in build_tables(self):
            for row in read_values(table) if table.name in ("scores", "costs") else ():
                key = row["task"], row["model"], row["method"]
                rows[key] = {**rows.get(key, {}), **row}
        return pandas.DataFrame(list(rows.values()))

    def to_json(self) -> dict[str, Any]:
        """Plain values of JSON."""
        values: dict[str, Any] = json.loads(self.model_dump_json(by_alias=True))
        return values

    def write(
        self,
        page: Path | str | None = None,
        *,
        card: Path | str | None = None,
        figures: Path | str | None = None,
        tables: Path | str | None = None,
        json: Path | str | None = None,
    ) -> list[tuple[str, Path]]:
        """Write the outputs that are asked for.

        Returns:
            What each file is that was written so far, and its path.

        Raises:
            StoreError: they cannot be written there.
        """
        written = self._written
        if card is not None:
            written.append(("Card", write_card(self, Path(card))))
        if page is not None:
            written.append(("Page", write_page(self, Path(page), dict(written).get("Card"))))
        if figures is not None:
            written += [("Figure", path) for path in write_figures(self, Path(figures))]
        if tables is not None:
            written += [("Table", path) for path in write_tables(self, Path(tables))]
        if json is not None:
            written.append(("Study", write_json(self, Path(json))))
        return written

    def show(
        self,
        out: Console,
        *,
        details: Annotated[bool, typer.Option()] = False,
        output: Annotated[Path | None, typer.Option(metavar="FILE")] = None,
        quiet: Annotated[bool, typer.Option()] = False,
    ) -> None:
        """Print the first screen, or all tables; write the page where none is written yet.

        Args:
            details: Every table, in place of the first screen.
            output: The page; with --json, the JSON instead.
            quiet: Only the answer, one line a task, and errors.
        """
        has_page = "Page" in dict(self._written)
        if output is not None and has_page:
            both = f"{spell_option('page')} and {spell_option('output')}"
            raise StudyError(f"{both} both name the page.", remedy="Leave out one.")
        if quiet:
            print_headlines(self, out)
        elif details:
            print_tables(self, out)
        else:
            print_screen(self, out, self._typed)
        if output is None and self._folder is not None and os.access(self._folder, os.W_OK):
            output = self._folder / "report.html"
        written = self.write(None if has_page else output)
        if quiet:
            return
        if not (has_page or output):
            reason = "" if self._folder is None else "the store may only be read. "
            out.print(f"No page: {reason}`--page FILE` writes it{reason and ' elsewhere'}.")
        for name, path in written:
            out.print(f"{name}: {path}", soft_wrap=True)


def write_json(report: Report, path: Path) -> Path:
    """Write the document to ``path``, whole or not at all.

    Raises:
        StoreError: it cannot be written there.
    """
    text = json.dumps(report.to_json(), indent=1, allow_nan=False)
    return write_file(path, f"{text}\n", "the JSON")


def read_json(path: Path) -> Report:
    """A file of :func:`write_json`, checked; every renderer takes it.

    Raises:
        StoreError: no such file, no JSON, another format, or parts of a study are missing.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"is no JSON ({error}).", where=str(path)) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StoreError(
            f"is not the JSON of a study in format {FORMAT}.",
            where=str(path),
            remedy="`paretune report --json --output FILE` writes it.",
        )
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{place}: {first['msg']}.", where=str(path)) from None
