"""Guess the label's column for `paretune new`, and say why."""

from __future__ import annotations

import re
from collections.abc import Mapping

from paretune.data.decimals import numbers
from paretune.data.labels import spell
from paretune.errors import DataError

LABEL = re.compile(
    r"(gold_?)?(label|labels|class|category|target|topic|sentiment|intent|y|answer|correct|"
    r"oznaka|razred|kategorija|tema)(_?(name|text|id))?",
    re.IGNORECASE,
)
MEASURED = re.compile(
    r"price|cost|amount|value|rating|score|charges|cena|znesek|ocena", re.IGNORECASE
)
LONGEST = 60
"""Characters of a label, where no name tells that it is one."""

Columns = Mapping[str, list[object]]


def guess_label(columns: Columns, *, table: bool, where: str) -> tuple[str, str]:
    """The label's column, and why it is taken to be the one.

    Args:
        columns: all columns of the file.
        table: whether all but the last are features.
        where: the file, for the error.

    Raises:
        DataError: nothing looks like a label; says how to name one.
    """
    few = _few(columns)
    for name, values in columns.items():
        if (LABEL.fullmatch(name) or MEASURED.fullmatch(name)) and many_numbers(values):
            return name, "its name, and it holds numbers"
    named = [name for name in columns if LABEL.fullmatch(name)]
    for name in named:
        if name in few:
            return name, f"its name, and its {few[name]} different values"
    last = list(columns)[-1]
    if table and (last in few or many_numbers(columns[last])):
        return last, "the last column of a table: check this guess, or say --label COLUMN"
    if few and not named:
        best = min(few, key=lambda name: few[name])
        return (
            best,
            f"it has the fewest different values ({few[best]}): check this guess, or say --label",
        )
    if named:
        return named[0], f"its name, though it holds {_strange(columns[named[0]])}"
    measured = [name for name, values in columns.items() if many_numbers(values)]
    if len(measured) == 1:
        return measured[0], "the only column of numbers: check this guess, or say --label"
    raise DataError(
        "no column looks like a label (few short values that repeat, or numbers).",
        where=where,
        remedy=f"Its columns are {', '.join(columns)}; say which one: --label COLUMN.",
    )


def many_numbers(values: list[object]) -> bool:
    """Many different numbers, as what is measured has, not the few that name classes."""
    if any(isinstance(v, list | dict) for v in values):
        return False
    found = numbers(values)
    return found is not None and len(set(found)) > max(20, len(found) / 20)


def _few(columns: Columns) -> dict[str, int]:
    """Columns of few short values that repeat, and how many those are."""
    few = {}
    for name, values in columns.items():
        if any(isinstance(v, list | dict) for v in values):
            continue
        found = {s for s in map(spell, values) if s is not None}
        most = max(2, min(200, len(values) // 2))
        if 2 <= len(found) <= most and max(map(len, found)) <= LONGEST:
            few[name] = len(found)
    return few


def _strange(values: list[object]) -> str:
    """What is unusual in values of a column that is called like a label."""
    found = {s for s in map(spell, values) if s is not None}
    if len(found) < 2:
        return "one value only: training needs a second" if found else "nothing"
    if len(found) > len(values) / 2:
        return f"{len(found)} different values in {len(values)} rows"
    if max(map(len, found)) > LONGEST:
        return f"{len(found)} long values"
    return f"{len(found)} different values"
