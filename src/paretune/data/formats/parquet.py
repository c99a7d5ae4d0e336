"""Parquet through pyarrow, with the label names that `datasets` leaves in its files."""

from __future__ import annotations

import io
import json
from typing import Any

from paretune.data.formats.row import Row
from paretune.errors import DataError


def parse_rows(data: bytes, name: str) -> list[Row]:
    """All rows, counted from 1.

    Raises:
        DataError: not Parquet, damaged, a doubled column, or text that is not UTF-8.
    """
    table = _read_table(data, name)
    columns = table.column_names
    doubled = sorted({c for c in columns if columns.count(c) > 1})
    if doubled:
        raise DataError(
            f'two columns are called "{doubled[0]}".', where=name, remedy="Rename one of them."
        )
    try:
        values = table.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError) as error:
        raise DataError(
            f"holds values that cannot be read ({error}).", where=name, remedy="Write it again."
        ) from None
    return [Row(v, f"{name} row {n}") for n, v in enumerate(values, 1)]


def parse_declared_labels(data: bytes, name: str, column: str) -> tuple[str, ...] | None:
    """Names of a ``ClassLabel`` column in the schema's ``huggingface`` metadata, else None."""
    metadata = _read_table(data, name).schema.metadata or {}
    if b"huggingface" not in metadata:
        return None
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return None  # another writer's metadata: it declares nothing that we know
    feature = features.get(column) if isinstance(features, dict) else None
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(str(n) for n in names) if isinstance(names, list) and names else None


def _read_table(data: bytes, name: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise DataError(
            f"is not readable Parquet ({reason}).", where=name, remedy="Write or copy it again."
        ) from None
