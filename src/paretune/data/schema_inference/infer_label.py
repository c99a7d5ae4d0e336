"""Guess the label's column for `paretune new`, and say why."""

from __future__ import annotations

import re
from collections.abc import Mapping

from paretune.data.columns import parse_numbers
from paretune.data.labels import cell_text
from paretune.errors import DataError

LABEL = re.compile(
    r"(gold_?)?(label|labels|class|category|target|topic|sentiment|intent|y|answer|correct|"
    r"oznaka|razred|kategorija|tema)(_?(name|text|id))?",
    re.IGNORECASE,
)
NUMERIC_TARGET = re.compile(
    r"price|cost|amount|value|rating|score|charges|cena|znesek|ocena", re.IGNORECASE
)
MAX_LABEL_LENGTH = 60
"""Characters of a label, where no name tells that it is one."""

Columns = Mapping[str, list[object]]


def infer_label_column(columns: Columns, *, table: bool, where: str) -> tuple[str, str]:
    """The label's column, and why it is taken to be the one.

    Args:
        table: whether all but the last are features.

    Raises:
        DataError: nothing looks like a label; says how to name one.
    """
    few = _few_valued_columns(columns)
    gaps = {name for name, values in columns.items() if _has_gaps(values)}
    for names in ([name for name in columns if name not in gaps], columns):
        for name in names:
            telling = LABEL.fullmatch(name) or NUMERIC_TARGET.fullmatch(name)
            if telling and is_numeric_target(columns[name]):
                return name, "its name, and it holds numbers"
        for name in names:
            if LABEL.fullmatch(name) and name in few:
                return name, f"its name, and its {few[name]} different values"
    named = [name for name in columns if LABEL.fullmatch(name)]
    last = list(columns)[-1]
    if table and (last in few or is_numeric_target(columns[last])):
        return last, "the last column of a table: check this guess, or say --label COLUMN"
    if few and not named:
        best = min(few, key=lambda name: (name in gaps, few[name]))
        which = "columns with few gaps" if gaps and best not in gaps else "columns"
        why = f"of the {which} it has the fewest different values ({few[best]})"
        return best, f"{why}: check this guess, or say --label"
    if named:
        return named[0], f"its name, though it holds {_describe_oddity(columns[named[0]])}"
    measured = [name for name, values in columns.items() if is_numeric_target(values)]
    if len(measured) == 1:
        return measured[0], "the only column of numbers: check this guess, or say --label"
    raise DataError(
        "no column looks like a label (few short values that repeat, or numbers).",
        where=where,
        remedy=f"Its columns are {', '.join(columns)}; say which one: --label COLUMN.",
    )


def is_numeric_target(values: list[object]) -> bool:
    """Many different numbers, as what is measured has, not the few that name classes."""
    if any(isinstance(v, list | dict) for v in values):
        return False
    parsed = parse_numbers(values)
    return parsed is not None and len(set(parsed)) > max(20, len(parsed) / 20)


def _has_gaps(values: list[object]) -> bool:
    """Whether more cells are empty than an oversight leaves: such a column is rarely the label."""
    return sum(cell_text(value) is None for value in values) > len(values) / 10


def _few_valued_columns(columns: Columns) -> dict[str, int]:
    """Columns of few short values that repeat, and how many those are."""
    few = {}
    for name, values in columns.items():
        if any(isinstance(v, list | dict) for v in values):
            continue
        distinct = {s for s in map(cell_text, values) if s is not None}
        most = max(2, min(200, len(values) // 2))
        if 2 <= len(distinct) <= most and max(map(len, distinct)) <= MAX_LABEL_LENGTH:
            few[name] = len(distinct)
    return few


def _describe_oddity(values: list[object]) -> str:
    """What is unusual in values of a column that is called like a label."""
    distinct = {s for s in map(cell_text, values) if s is not None}
    if len(distinct) < 2:
        return "one value only: training needs a second" if distinct else "nothing"
    if len(distinct) > len(values) / 2:
        return f"{len(distinct)} different values in {len(values)} rows"
    if max(map(len, distinct)) > MAX_LABEL_LENGTH:
        return f"{len(distinct)} long values"
    return f"{len(distinct)} different values"
