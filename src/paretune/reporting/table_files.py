"""The tables of a report as files: CSV with unrounded values, LaTeX (booktabs) as readers see them.

For other forms ``Report.to_pandas()`` is a DataFrame.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from ruamel.yaml import YAML

from paretune.reporting.document import Document, write_file
from paretune.reporting.parts import Plain, Score
from paretune.reporting.table import Table
from paretune.reporting.tables import build_tables
from paretune.reporting.text import escape

_TYPES = {kind.__name__: kind for kind in (str, float, int, bool)}
COLUMNS: Mapping[str, tuple[type, str]] = {
    name: (_TYPES[kind], meaning)
    for name, (kind, meaning) in YAML(typ="safe", pure=True)
    .load((files("paretune.reporting") / "columns.yaml").read_text(encoding="utf-8"))
    .items()
}
"""Columns of CSV files: types and meanings."""
_OF_A_SCORE = ("low", "high", "n", "n_groups", "n_questions", "seeds")
_SCORES = ("score", "difference", "selection_score")
"""Columns of scores. Their interval and basis are columns also where no row has them."""
MAX_UNBROKEN_CHARACTERS = 32
"""LaTeX breaks the lines of a column that has a longer text."""


def write_tables(report: Document, folder: Path) -> list[Path]:
    """Write every table that has rows as LaTeX and CSV; returns the files.

    Raises:
        StoreError: a file cannot be written.
    """
    return [
        write_file(folder / f"{table.name}.{suffix}", render(table), "a table")
        for table in build_tables(report)
        for suffix, render in (("tex", render_latex), ("csv", render_csv))
    ]


def read_values(table: Table) -> list[dict[str, Plain]]:
    """Read the values of each row by the columns of its file; None for a number that is not finite.

    Scores become their estimate, interval and basis.
    """
    rows: list[dict[str, Score | Plain]] = []
    for row in table.values:
        values: dict[str, Score | Plain] = {}
        for name, value in row.items():
            if isinstance(value, Score):
                basis = (value.n_examples, value.n_clusters, value.n_questions, value.n_seeds)
                numbers = (value.estimate, value.low, value.high, *basis)
                values |= dict(zip((name, *_OF_A_SCORE), numbers, strict=True))
            elif name in _SCORES:
                values |= dict.fromkeys((name, *_OF_A_SCORE))
            else:
                values[name] = value
        rows.append(values)
    names = dict.fromkeys(name for row in rows for name in row if name in COLUMNS)
    plain: list[dict[str, Plain]] = []
    for values in rows:
        read: dict[str, Plain] = dict.fromkeys(names)
        for name in names:
            entry = values.get(name)
            if entry is not None and not (isinstance(entry, float) and not math.isfinite(entry)):
                read[name] = COLUMNS[name][0](entry)
        plain.append(read)
    return plain


def render_csv(table: Table) -> str:
    """Write the names of columns, then the unrounded values; missing values are empty."""
    out, rows = io.StringIO(), read_values(table)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0])
    for values in rows:
        writer.writerow(
            escape.escape_csv(value)
            if isinstance(value, str)
            else str(value).lower()
            if isinstance(value, bool)
            else value
            for value in values.values()
        )
    return out.getvalue()


def render_latex(table: Table) -> str:
    """Write the table as readers see it, under its title, with the notes below.

    It needs ``array``, ``booktabs`` and ``graphicx``, and T1 fonts for other alphabets. The lines
    of a column that holds sentences are broken.
    """
    texts = table.texts
    sides = []
    for column in zip(*texts, strict=True):
        starts = [text.removeprefix("<")[:1] for text in column]
        numeric = all(start.isdigit() or start in "-–" for start in starts)
        is_long = max(map(len, column)) > MAX_UNBROKEN_CHARACTERS
        sides.append("text" if is_long else "r" if numeric else "l")
    jinja = escape.open_templates("paretune.reporting")
    jinja.filters["latex"] = escape.escape_latex
    headings = [column.heading for column in table.columns]
    template = jinja.get_template("table.tex.j2")
    return template.render(table=table, headings=headings, texts=texts, sides=sides)
