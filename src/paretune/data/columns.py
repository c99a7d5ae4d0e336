"""Columns of a table: numbers with decimal commas, and rows as sentences.

Source: Dinh et al. 2022 (LIFT), arXiv:2206.06565, section 2: a row becomes a sentence by a
template, and a language model learns from sentences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from paretune.data.example import Segments
from paretune.data.finding import Finding
from paretune.data.labels import cell_text
from paretune.data.rows import Row
from paretune.errors import StudyError
from paretune.study import Label

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


MISSING_VALUE = "unknown"
"""What a user's template shows where a row has no value."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

Value = Label | str | None


def parse_number(value: object) -> float | None:
    """A finite number, or the text of one; None for anything else, ``true`` included."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_features(row: Row, columns: Sequence[str]) -> tuple[tuple[Value, ...], list[Finding]]:
    """The row's values in these columns: a number, a text, or None where there is nothing."""
    values: list[Value] = []
    faults = []
    for column in columns:
        value = row.values.get(column)
        if isinstance(value, list | dict):
            what = f'holds a {type(value).__name__} in "{column}"; a cell has one value.'
            faults.append(Finding("error", "not-a-value", row.where, what, "Give it one value."))
        elif (parsed := parse_number(value)) is not None:
            values.append(parsed)
        else:
            values.append(cell_text(value))
    return tuple(values), faults


def feature_texts(row: Row, columns: Sequence[str]) -> dict[str, str]:
    """The text of each non-empty cell by column; a number 3.0 is written 3."""
    written = {column: cell_text(row.values.get(column)) for column in columns}
    return {column: text for column, text in written.items() if text is not None}


def make_row_template(
    columns: Sequence[str], template: str | None
) -> Callable[[Mapping[str, str]], Segments]:
    """From the texts of a row's values to its sentence.

    Args:
        template: the user's, with ``{column}`` for a value; None names each column and its value,
            and passes over what is missing: ``rooms: 4. year: 1972.``

    Raises:
        StudyError: the template names a column that is not a feature, or omits one.
    """
    if template is None:
        return lambda texts: ((" ".join(f"{c}: {texts[c]}." for c in columns if c in texts), None),)
    named = _PLACEHOLDER.findall(template)
    strange = [name for name in named if name not in columns]
    absent = [column for column in columns if column not in named]
    if strange or absent:
        wrong = [f'"{{{name}}}" is not a feature' for name in strange]
        wrong += [f'"{{{name}}}" is missing' for name in absent]
        raise StudyError(
            f"template: {'; '.join(wrong)}.",
            remedy=f"Write each of {', '.join(f'{{{c}}}' for c in columns)} into it.",
        )
    return lambda texts: (
        (_PLACEHOLDER.sub(lambda match: texts.get(match.group(1), MISSING_VALUE), template), None),
    )
