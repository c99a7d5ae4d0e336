"""Numbers with a decimal comma: ``3,5``.

Whether a comma separates decimals or thousands is decided for the whole column: ``1,234`` may be
either, but in a column with ``3,5`` or ``0,125`` it is a decimal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from paretune.data.finding import Finding
from paretune.data.formats.row import Row
from paretune.data.labels import cell_text
from paretune.data.tabular import parse_number

_COMMA = re.compile(r"[+-]?\d+,\d+")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""Possibly thousands."""


def parse_numbers(values: Iterable[object]) -> list[float] | None:
    """The numbers of a column without its empty cells; None if it holds anything else."""
    known = [value for value in values if cell_text(value) is not None]
    commas = uses_decimal_comma(known)
    parsed = [parse_number(replace_comma(value) if commas else value) for value in known]
    numbers = [value for value in parsed if value is not None]
    return numbers if len(numbers) == len(parsed) else None


def uses_decimal_comma(values: Iterable[object]) -> bool:
    """Whether every comma in a column's numbers must be a decimal comma."""
    texts = [v.strip() for v in values if isinstance(v, str) and "," in v]
    return (
        bool(texts)
        and all(_COMMA.fullmatch(text) for text in texts)
        and not all(_AMBIGUOUS.fullmatch(text) for text in texts)
    )


def replace_comma(value: object) -> object:
    """``3,5`` as ``3.5``; anything else unchanged."""
    if isinstance(value, str) and _COMMA.fullmatch(value.strip()):
        return value.strip().replace(",", ".")
    return value


def convert_decimal_commas(
    parts: Sequence[Sequence[Row]], columns: Iterable[str]
) -> tuple[list[list[Row]], list[Finding]]:
    """Rows whose numbers have points, and a note for each column that had commas.

    Args:
        parts: rows of train, and of test; a column is looked at in all of them.
        columns: those that are to hold numbers.
    """
    rows = [list(part) for part in parts]
    notes = []
    for column in columns:
        every = [row for part in rows for row in part]
        if not uses_decimal_comma(row.values.get(column) for row in every):
            continue
        changed = [r for r in every if replace_comma(r.values.get(column)) != r.values.get(column)]
        rows = [[_replace_in_row(row, column) for row in part] for part in rows]
        first = str(changed[0].values[column]).strip()
        notes.append(
            Finding(
                "note",
                "decimal-comma",
                changed[0].where,
                f'"{first}" in "{column}" was read as {replace_comma(first)} '
                f"({len(changed)} such rows in all).",
                "Nothing to do if that is what they mean.",
            )
        )
    return rows, notes


def _replace_in_row(row: Row, column: str) -> Row:
    if column not in row.values:
        return row
    return replace(row, values={**row.values, column: replace_comma(row.values[column])})
