"""Columns of a table: numbers with decimal commas, and rows as sentences.

Source: Dinh et al. 2022 (LIFT), arXiv:2206.06565, section 2: a row becomes a sentence by a
template, and a language model learns from sentences.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from paretune.answers import Label
from paretune.data.finding import Finding, InvalidValueError
from paretune.data.rows import Row
from paretune.data.task import TaskRows
from paretune.errors import StudyError

NULL_VALUES = ("nan", "NaN", "None", "null", "NULL", "NA", "N/A", "n/a", "#N/A", "<NA>")
"""Texts of programs for a missing value; pandas' ``na_values`` but for rare ones."""
MISSING_VALUE = "unknown"
"""Text of a user's template where a row has no value."""
_COMMA = re.compile(r"[+-]?\d+,\d+")
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""Possibly thousands."""
_ARRAY = re.compile(r"array\((\[.*?\])(?:,\s*dtype=\w+)?\)", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

_GROUP = re.compile(
    r"(?!(label|class|category|topic|target|intent)_)((.*_)?(id|uid|uuid|author|user|speaker|writer|reviewer|patient|person|customer|client|"
    r"document|doc|article|thread|session|conversation|dialogue|passage|avtor|uporabnik|govorec|"
    r"stranka|dokument|članek|pogovor))(_?(id|uid|name|no|ime))?",
    re.IGNORECASE,
)
MIN_GROUPS = 5
"""Values that a column must have to be proposed as group: a fold needs one at least."""
MIN_UNNAMED_GROUPS = 10
"""Fewer values are rather a category in a column whose name does not tell."""

Values = Mapping[str, object]
"""The cells of a row by column."""


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


def parse_literal(value: object) -> object:
    """A list or an object, also one that a CSV holds as Python or pandas writes it."""
    text = value.strip() if isinstance(value, str) else ""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return value
    try:
        # It reads literals alone: no name of a cell is looked up and nothing is called.
        literal = ast.literal_eval(_ARRAY.sub(r"\1", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
    return literal if isinstance(literal, list | dict) else value


def parse_date(value: object) -> datetime | None:
    """A date or a moment of ISO 8601, in UTC where it names no zone; None for anything else."""
    try:
        # Parquet has moments themselves, whose text is ISO.
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_text(values: Values, column: str, *, allow_empty: bool = True) -> str:
    """The text of a cell, as it is written.

    Raises:
        InvalidValueError: there is none, or something else.
    """
    value = values.get(column)
    if value is None or value != value or not (allow_empty or str(value).strip()):
        code, what = "missing-text", "has no text"
    elif isinstance(value, str):
        return value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    else:
        code, what = "not-text", f"holds a {type(value).__name__}, not a text,"
    raise InvalidValueError(code, f'{what} in "{column}".', "Give it a text, or remove the row.")


def read_options(value: object) -> tuple[list[str], list[object]]:
    """The names and the texts of the choices in one cell; nothing where it holds none.

    They stand as in ARC and CommonsenseQA (``{text: [...], label: [A, ...]}``), as a list of such
    objects, as an object with a text for each name, or as a list: its names are places from 0.
    """
    cell = parse_literal(value)
    if isinstance(cell, list) and cell and all(isinstance(item, dict) for item in cell):
        cell = {key: [item.get(key) for item in cell] for key in ("label", "text")}
    if isinstance(cell, list):
        return [*map(str, range(len(cell)))], cell
    if not isinstance(cell, dict):
        return [], []
    names, texts = cell.get("label"), cell.get("text")
    if isinstance(names, list) and isinstance(texts, list) and len(names) == len(texts):
        return [*map(str, names)], texts
    present = {str(name): text for name, text in cell.items() if text is not None}
    return [*present], [*present.values()]


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
        """The numbers without empty cells and null values; None if there is anything else."""
        empty = {None, *NULL_VALUES}
        cells = [value for value in self.values if cell_text(value) not in empty]
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

    @cached_property
    def holds_dates(self) -> bool:
        """Whether every cell is a date of ISO 8601, and there are two at least."""
        dates = map(parse_date, self.values) if self.is_plain else ()
        return len(self.distinct) > 1 and all(date is not None for date in dates)

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
    return {name: DataColumn([row.values.get(name) for row in rows]) for name in names}


def find_possible_groups(
    columns: Mapping[str, DataColumn], used: Iterable[object]
) -> dict[str, str]:
    """Columns beside those that a task uses whose rows may hang together, and why.

    Returns:
        ``40 values in 250 rows`` by the column's name.
    """
    groups, names_used = {}, set(used)
    for name, column in columns.items():
        count, rows = len(column.distinct), len(column.values)
        filled = sum(cell_text(value) is not None for value in column.values)
        if name in names_used or not MIN_GROUPS <= count <= 0.8 * filled or column.holds_dates:
            continue
        short = column.numbers is None and column.words < 4
        if _GROUP.fullmatch(name) or (short and count >= MIN_UNNAMED_GROUPS):
            groups[name] = f"{count:,} values in {rows:,} rows"
    return groups


def convert_decimal_commas(rows: TaskRows, columns: Iterable[str]) -> TaskRows:
    """Rows whose numbers have points, with a note for each column that had commas."""
    every = [row for part in rows.parts().values() for row in part]
    converted = [c for c in columns if uses_decimal_comma(row.values.get(c) for row in every)]
    notes = []
    for column in converted:
        cells = ((row.where, row.values.get(column)) for row in every)
        changed = [(where, value) for where, value in cells if replace_comma(value) is not value]
        where, first = changed[0]
        what = (
            f'"{str(first).strip()}" in "{column}" was read as {replace_comma(first)} '
            f"({len(changed)} such rows in all)."
        )
        remedy = "Nothing to do if that is what they mean."
        notes.append(Finding("note", "decimal-comma", where, what, remedy))

    def convert(part: Sequence[Row]) -> list[Row]:
        cells = [row.values.items() for row in part]
        values = [{c: replace_comma(v) if c in converted else v for c, v in r} for r in cells]
        return [replace(row, values=v) for row, v in zip(part, values, strict=True)]

    if not converted:
        return rows
    unlabelled, findings = convert(rows.unlabelled), [*rows.findings, *notes]
    return replace(rows.map(convert), unlabelled=unlabelled, findings=findings)


def make_table_reader(
    columns: Sequence[str], template: str | None
) -> Callable[[Values], dict[str, Any]]:
    """Make a function from the values of a row to its sentence and its features.

    Features are numbers, texts, or None.

    Args:
        template: the user's, with ``{column}`` for a value; None names each column and its value,
            and passes over what is missing: ``rooms: 4. year: 1972.``

    Raises:
        StudyError: the template names a column that is not a feature, or omits one.
    """
    named = [] if template is None else _PLACEHOLDER.findall(template)
    wrong = [f'"{{{name}}}" is not a feature' for name in named if name not in columns]
    wrong += [f'"{{{c}}}" is missing' for c in columns if template is not None and c not in named]
    if wrong:
        raise StudyError(
            f"template: {'; '.join(wrong)}.",
            remedy=f"Write each of {', '.join(f'{{{c}}}' for c in columns)} into it.",
        )

    def read(values: Values) -> dict[str, Any]:
        features: list[Label | str | None] = []
        texts = {}
        for column in columns:
            value = values.get(column)
            if isinstance(value, list | dict):
                what = f'holds a {type(value).__name__} in "{column}"; a cell has one value.'
                raise InvalidValueError("not-a-value", what, "Give it one value.")
            number, text = parse_number(value), cell_text(value)
            features.append(text if number is None else number)
            if text is not None:
                texts[column] = text
        if template is None:
            sentence = " ".join(f"{column}: {text}." for column, text in texts.items())
        else:
            sentence = _PLACEHOLDER.sub(lambda m: texts.get(m.group(1), MISSING_VALUE), template)
        return {"segments": ((sentence, None),), "features": tuple(features)}

    return read
