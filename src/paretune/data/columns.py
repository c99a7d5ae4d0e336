"""Columns of a table: numbers with decimal commas, and rows as sentences.

Source: Dinh et al. 2022 (LIFT), arXiv:2206.06565, section 2: a row becomes a sentence by a
template, and a language model learns from sentences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from paretune.data.example import Segments
from paretune.data.finding import Finding, InvalidValueError
from paretune.data.rows import Row
from paretune.data.task import TaskRows
from paretune.errors import StudyError
from paretune.study import Label

MISSING_VALUE = "unknown"
"""What a user's template shows where a row has no value."""
_COMMA = re.compile(r"[+-]?\d+,\d+")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""Possibly thousands."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

Value = Label | str | None


def cell_text(value: object) -> str | None:
    """A cell as text, or None where there is none (null, empty, NaN).

    ``True`` is ``true`` and ``1.0`` is ``1``, as JSON and pandas write them; strings are only
    stripped.
    """
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def parse_number(value: object) -> float | None:
    """A finite number, or the text of one; None for anything else, ``true`` included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


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


@dataclass(frozen=True)
class DataColumn:
    """The values of one column in the order of the rows, and what they show."""

    name: str
    values: list[object]

    @cached_property
    def is_plain(self) -> bool:
        """Whether no cell holds a list or an object."""
        return not any(isinstance(value, list | dict) for value in self.values)

    @cached_property
    def distinct(self) -> set[str]:
        """Different texts of the cells; of lists and objects none."""
        texts = map(cell_text, self.values) if self.is_plain else ()
        return {text for text in texts if text is not None}

    @cached_property
    def numbers(self) -> list[float] | None:
        """The numbers without empty cells; None if there is anything else."""
        cells = [value for value in self.values if cell_text(value) is not None]
        if uses_decimal_comma(cells):
            cells = [replace_comma(value) for value in cells]
        numbers = [number for value in cells if (number := parse_number(value)) is not None]
        return numbers if self.is_plain and len(numbers) == len(cells) else None

    @cached_property
    def texts(self) -> list[str]:
        """The cells that are texts."""
        return [value for value in self.values if isinstance(value, str)]

    @cached_property
    def words(self) -> float:
        """Words of a text on average."""
        return sum(len(text.split()) for text in self.texts) / max(1, len(self.texts))

    @property
    def is_text(self) -> bool:
        """Whether every cell is a text."""
        return len(self.texts) == len(self.values)

    def holds_texts(self, min_words: float = 1.5) -> bool:
        """Lists (of messages, of texts), or texts of so many words on average."""
        lists = sum(isinstance(value, list) for value in self.values)
        whole = lists + len(self.texts) == len(self.values) > 0
        return whole and (not self.texts or self.words >= min_words)

    @property
    def is_measured(self) -> bool:
        """Many different numbers, as what is measured has, not the few that name classes."""
        numbers = self.numbers or []
        return len(set(numbers)) > max(20, len(numbers) / 20)

    @property
    def repeats(self) -> bool:
        """Few plain values that occur again and again, as labels do."""
        return 2 <= len(self.distinct) <= max(2, len(self.values) // 2)

    @property
    def is_unique(self) -> bool:
        """A different plain value in every row."""
        return self.is_plain and len(self.distinct) == len(self.values)


def gather_columns(rows: Sequence[Row]) -> dict[str, DataColumn]:
    """Every column that a row has; None where another row has no value."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    return {name: DataColumn(name, [row.values.get(name) for row in rows]) for name in names}


def convert_decimal_commas(rows: TaskRows, columns: Iterable[str]) -> TaskRows:
    """Rows whose numbers have points, with a note for each column that had commas."""
    for column in columns:
        cells = [
            (row.where, row.values[column])
            for part in rows.parts().values()
            for row in part
            if column in row.values
        ]
        if not uses_decimal_comma(value for _, value in cells):
            continue

        def convert(part: Sequence[Row], column: str = column) -> list[Row]:
            return [
                replace(row, values=row.values | {column: replace_comma(row.values[column])})
                if column in row.values
                else row
                for row in part
            ]

        changed = [(where, value) for where, value in cells if replace_comma(value) != value]
        where, first = changed[0][0], str(changed[0][1]).strip()
        what = (
            f'"{first}" in "{column}" was read as {replace_comma(first)} ({len(changed)} such rows '
            "in all)."
        )
        remedy = "Nothing to do if that is what they mean."
        note = Finding("note", "decimal-comma", where, what, remedy)
        rows = replace(rows.map(convert), findings=[*rows.findings, note])
    return rows


def read_features(row: Row, columns: Sequence[str]) -> tuple[Value, ...]:
    """The row's values in these columns: a number, a text, or None where there is nothing.

    Raises:
        InvalidValueError: a cell holds several values.
    """
    values: list[Value] = []
    for column in columns:
        value = row.values.get(column)
        if isinstance(value, list | dict):
            what = f'holds a {type(value).__name__} in "{column}"; a cell has one value.'
            raise InvalidValueError("not-a-value", what, "Give it one value.")
        number = parse_number(value)
        values.append(cell_text(value) if number is None else number)
    return tuple(values)


def feature_texts(row: Row, columns: Sequence[str]) -> dict[str, str]:
    """The text of each non-empty cell by column; a number 3.0 is written 3."""
    return {c: text for c in columns if (text := cell_text(row.values.get(c))) is not None}


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
    wrong = [f'"{{{name}}}" is not a feature' for name in named if name not in columns]
    wrong += [f'"{{{column}}}" is missing' for column in columns if column not in named]
    if wrong:
        raise StudyError(
            f"template: {'; '.join(wrong)}.",
            remedy=f"Write each of {', '.join(f'{{{c}}}' for c in columns)} into it.",
        )
    return lambda texts: (
        (_PLACEHOLDER.sub(lambda match: texts.get(match.group(1), MISSING_VALUE), template), None),
    )
