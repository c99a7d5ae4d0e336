"""The tables of a report as files: LaTeX (booktabs), Markdown, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from paretune.reporting.model import Report
from paretune.reporting.tables.column_types import COLUMNS
from paretune.reporting.tables.study_tables import Table, Value, build_tables
from paretune.reporting.text import escape
from paretune.reporting.writing import write_file


def write_tables(report: Report, folder: Path) -> list[Path]:
    """Write every table that has rows in each format; returns the files.

    Raises:
        StoreError: a file cannot be written.
    """
    return [path for table in build_tables(report) for path in write_table(table, folder)]


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write one table in each format; returns the files.

    Raises:
        StoreError: a file cannot be written.
    """
    return [
        write_file(folder / f"{table.name}.{suffix}", write(table), "a table")
        for suffix, write in FORMATS.items()
    ]


LONG = 32
"""Letters of a cell beyond which LaTeX breaks its column's lines: cells that hold sentences."""

_BROKEN = r">{\raggedright\arraybackslash}p{4cm}"


def render_latex(table: Table) -> str:
    r"""A float with caption and notes, no wider than the line.

    Needs ``array``, ``booktabs`` and ``graphicx``, and T1 fonts for other alphabets. Columns of
    long texts are broken into lines; what is still too wide is set smaller (``\resizebox``).
    """
    lines = [
        r"% needs \usepackage{array,booktabs,graphicx} and \usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape.escape_latex(table.title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{_sides(table)}}}",
        r"\toprule",
        _latex_row(table.titles),
        r"\midrule",
        *(_latex_row(texts) for texts in table.texts),
        r"\bottomrule",
        r"\end{tabular}}",
        *(rf"\par\smallskip{{\footnotesize {escape.escape_latex(n)}\par}}" for n in table.notes),
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def _sides(table: Table) -> str:
    """``l``, ``r``, or a column that breaks its lines."""
    sides = []
    for right, texts in zip(_numeric(table), zip(*table.texts, strict=True), strict=True):
        broken = max(map(len, texts)) > LONG
        sides.append(_BROKEN if broken else "r" if right else "l")
    return "".join(sides)


def _latex_row(texts: Sequence[str]) -> str:
    return " & ".join(escape.escape_latex(text) for text in texts) + r" \\"


def render_markdown(table: Table) -> str:
    """A pipe table under its title, notes below."""

    def row(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    rules = ["---:" if right else "---" for right in _numeric(table)]
    lines = [
        f"### {escape.escape_markdown(table.title)}",
        "",
        row([escape.escape_markdown(title) for title in table.titles]),
        row(rules),
        *(row([escape.escape_markdown(text) for text in texts]) for texts in table.texts),
    ]
    for note in table.notes:
        lines += ["", escape.escape_markdown(note)]
    return "\n".join([*lines, ""])


def render_csv(table: Table) -> str:
    """Names of columns, then the unrounded values; what is not there is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    for values in table.values:
        writer.writerow([_csv(value) for value in values])
    return out.getvalue()


def _csv(value: Value) -> str:
    finite = _finite(value)
    if finite is None:
        return ""
    if isinstance(finite, bool):
        return str(finite).lower()
    return escape.escape_csv(finite) if isinstance(finite, str) else repr(finite)


def render_parquet(table: Table) -> bytes:
    """Typed columns, each with its meaning; title and notes in the schema's metadata."""
    import pyarrow
    import pyarrow.parquet

    types = {
        str: pyarrow.string(),
        float: pyarrow.float64(),
        int: pyarrow.int64(),
        bool: pyarrow.bool_(),
    }
    fields = [
        pyarrow.field(name, types[COLUMNS[name][0]], metadata={"meaning": COLUMNS[name][1]})
        for name in table.columns
    ]
    about = {"title": table.title, "notes": "\n".join(table.notes)}
    rows = [
        dict(zip(table.columns, (_finite(value) for value in values), strict=True))
        for values in table.values
    ]
    out = io.BytesIO()
    schema = pyarrow.schema(fields, metadata=about)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), out)
    return out.getvalue()


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numeric(table: Table) -> list[bool]:
    """Which columns of the texts hold numbers: they are aligned to the right."""
    columns = zip(*table.texts, strict=True) if table.texts else ((),) * len(table.titles)
    return [all(_number(text) for text in column) for column in columns]


def _number(text: str) -> bool:
    first = text.removeprefix("under ")[:1]
    return first.isdigit() or first in "-–"


FORMATS: dict[str, Callable[[Table], str | bytes]] = {
    "tex": render_latex,
    "md": render_markdown,
    "csv": render_csv,
    "parquet": render_parquet,
}
"""What each suffix is written by."""
