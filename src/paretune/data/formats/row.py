"""One row of a data file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Column names and values, and where the row is: ``train.csv line 412``.

    The line is where the row begins in the file; rows of a Parquet file are counted from 1.
    """

    values: dict[str, object]
    where: str
