"""Numbers with a decimal comma, as half of Europe writes them: ``3,5``.

Whether a comma parts decimals or thousands is a matter of the whole column: ``1,234`` may be both,
and beside ``3,5`` or ``0,125`` it can be decimals only.
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
"""Perhaps thousands."""


def parse_numbers(values: Iterable[object]) -> list[float] | None:
    """The numbers of a column, empty cells left out; None where anything else is in it."""
    known = [value for value in values if cell_text(value) is not None]
    commas = uses_decimal_comma(known)
    found = [parse_number(replace_comma(value) if commas else value) for value in known]
    kept = [value for value in found if value is not None]
    return kept if len(kept) == len(found) else None


def uses_decimal_comma(values: Iterable[object]) -> bool:
    """Whether all commas in a column's numbers part decimals, beyond doubt."""
    texts = [v.strip() for v in values if isinstance(v, str) and "," in v]
    return (
        bool(texts)
        and all(_COMMA.fullmatch(text) for text in texts)
        and not all(_AMBIGUOUS.fullmatch(text) for text in texts)
    )


def replace_comma(value: object) -> object:
    """``3,5`` as ``3.5``; all else as it is."""
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
        held = [r for r in every if replace_comma(r.values.get(column)) != r.values.get(column)]
        rows = [[_replace_in_row(row, column) for row in part] for part in rows]
        first = str(held[0].values[column]).strip()
        notes.append(
            Finding(
                "note",
                "decimal-comma",
                held[0].where,
                f'"{first}" in "{column}" was read as {replace_comma(first)} '
                f"({len(held)} such rows in all).",
                "Nothing to do if that is what they mean.",
            )
        )
    return rows, notes


def _replace_in_row(row: Row, column: str) -> Row:
    if column not in row.values:
        return row
    return replace(row, values={**row.values, column: replace_comma(row.values[column])})
