"""One row of a data file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Column names and values, and where the row is: ``train.csv line 412``.

    The line is where the row begins in the file; rows of a Parquet file are counted from 1.
    """

    values: dict[str, object]
    where: str


def gather_columns(rows: Sequence[Row]) -> dict[str, list[object]]:
    """The values of every column that a row has, in the order of the rows; None where it is not."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    return {name: [row.values.get(name) for row in rows] for name in names}
