"""The user's multiple choice: one column for each choice, or one column that holds a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paretune.data.build import InvalidLabel, LabelParser, Texts, make_missing_label
from paretune.data.finding import Finding, raise_for_findings
from paretune.data.formats.row import Row
from paretune.data.labels import cell_text, match_choice
from paretune.errors import DataError


def expand_choice_columns(
    rows: Sequence[Row], choices: Sequence[str]
) -> tuple[list[Row], tuple[str, ...]]:
    """Rows with one column for each choice, and those columns' names.

    A single column of lists, ``choices: [options]``, becomes ``options[0]``, ``options[1]``, ...

    Raises:
        DataError: fewer than two choices, or lists of different lengths (every such row is named).
    """
    if len(choices) > 1:
        return list(rows), tuple(choices)
    name = choices[0]
    lists = [row.values.get(name) for row in rows]
    first = next((v for v in lists if isinstance(v, list)), None)
    if first is None or len(first) < 2:
        raise DataError(
            f'"{name}" is one column and holds no lists; there must be two choices at least.',
            where=rows[0].where,
            remedy="Name a column for each choice, or one that holds lists.",
        )
    names = tuple(f"{name}[{i}]" for i in range(len(first)))
    raise_for_findings(
        [
            Finding(
                "error",
                "ragged-choices",
                row.where,
                f'"{name}" holds {len(v) if isinstance(v, list) else "no"} choices, '
                f"{rows[0].where} holds {len(names)}.",
                "Every row must have as many choices; leave out the others.",
            )
            for row, v in zip(rows, lists, strict=True)
            if not isinstance(v, list) or len(v) != len(names)
        ]
    )
    return [
        replace(row, values={**row.values, **dict(zip(names, v, strict=True))})
        for row, v in zip(rows, lists, strict=True)
        if isinstance(v, list)
    ], names


def make_choice_resolver(columns: Sequence[str], names: Sequence[str] | None) -> LabelParser:
    """Resolve a label to a choice: index from 0, column, text, or one of ``names``.

    Raises:
        DataError: ``names`` are given, but not one for each choice.
    """
    if names is not None and len(names) != len(columns):
        raise DataError(
            f"labels names {len(names)} choices, and there are {len(columns)}.",
            remedy="List a label for each choice, in their order, or leave labels out.",
        )

    def resolve(value: object, texts: Texts) -> int | InvalidLabel:
        if cell_text(value) is None:
            return make_missing_label()
        choice = match_choice(value, columns, [texts[c] for c in columns], names)
        if isinstance(choice, int):
            return choice
        remedy = "Fix the row; labels that count from 1 are listed as labels: [1, 2, ...]."
        return InvalidLabel("unknown-label", choice, remedy)

    return resolve
