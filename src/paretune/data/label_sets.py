"""Several labels in a row: lists, texts with a separator, or a column of 0 and 1 for each.

A row's are read as a text of 0 and 1, a character for each (:mod:`paretune.metrics.label_sets`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from paretune.data.columns import Values, cell_text
from paretune.data.finding import InvalidValueError
from paretune.data.labels import Labels, fold_label, read_class, read_label
from paretune.data.rows import Row
from paretune.metrics.label_sets import write_label_set

SEPARATORS = "|;,/"
_INDICATORS = {"0": False, "1": True, "false": False, "true": True}


def parse_list(value: object) -> object:
    """A list, also one that a CSV holds as text; anything else as it is."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            return ast.literal_eval(value)  # literals alone: nothing is called
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    return value


def find_separator(cells: Iterable[object]) -> str | None:
    """What parts the labels in the texts of a column: that of ``|;,/`` which most of them have."""
    texts = [cell for cell in cells if isinstance(cell, str) and parse_list(cell) is cell]
    count, mark = max((sum(mark in text for text in texts), mark) for mark in SEPARATORS)
    return mark if count else None


def read_items(values: Values, column: str, separator: str | None) -> list[str]:
    """The items of a list, or the parts of a text; "" for an empty item.

    Raises:
        InvalidValueError: there is no cell, or an object in it.
    """
    items = parse_list(values.get(column))
    if cell_text(items) is None:
        remedy = "Write a list, [] if nothing is in it, or remove the row."
        raise InvalidValueError("missing-label", f'has nothing in "{column}".', remedy)
    if not isinstance(items, list | tuple | dict):
        parts = str(items).split(separator) if separator else [items]
        items = [part for part in parts if cell_text(part) is not None]
    if isinstance(items, dict) or any(isinstance(item, list | dict) for item in items):
        what = f'holds objects in the place of texts in "{column}".'
        raise InvalidValueError("not-list", what, "Write a list of texts.")
    return [cell_text(item) or "" for item in items]


def read_names(values: Values, column: str, separator: str | None) -> list[str]:
    """The labels that a row names.

    Raises:
        InvalidValueError: there is no cell, an object in it, or a label twice.
    """
    names = [name for name in read_items(values, column, separator) if name]
    if twice := [name for name in names if names.count(name) > 1]:
        what = f'names the label "{twice[0]}" twice.'
        remedy = "Name each label once; of lists of 0 and 1 make a column for each label."
        raise InvalidValueError("not-label", what, remedy)
    return names


def list_labels(rows: Sequence[Row], column: str, separator: str | None) -> list[Row]:
    """A row for each label that a row has; none for rows that cannot be read."""
    listed = []
    for row in rows:
        try:
            names = read_names(row.values, column, separator)
        except InvalidValueError:
            continue  # building the examples says which rows
        listed += [Row({column: name}, row.where) for name in names]
    return listed


def read_label_set(
    values: Values, column: str | None, labels: Labels, separator: str | None
) -> str:
    """Which labels a row has.

    Args:
        column: names them; None: each label has a column of 0 and 1.

    Raises:
        InvalidValueError: a cell holds nothing, names what is no label, or is neither 0 nor 1.
    """
    if column is not None:
        names = read_names(values, column, separator)
        places = {read_class({column: name}, column, labels) for name in names}
        return write_label_set(place in places for place in range(len(labels)))
    texts = [read_label(values, label) for label in labels]
    for label, text in zip(labels, texts, strict=True):
        if fold_label(text) not in _INDICATORS:
            what = f'"{text}" in "{label}" is neither 0 nor 1.'
            raise InvalidValueError("not-indicator", what, "Fix it: 1 is a label that it has.")
    return write_label_set(_INDICATORS[fold_label(text)] for text in texts)
