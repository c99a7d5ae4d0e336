"""A table in memory instead of a data file: pandas, polars, Arrow or `datasets`.

Its rows are saved as a Parquet file that is named by their content, so that a study can be run
again from its file. None of these libraries is imported: an object with Arrow's columns is a table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretune.errors import DataError
from paretune.files import replace_file

_INDEX = "__index_level_"
"""The prefix that pandas gives to an index without a name, which is not data."""


def is_data_frame(value: object) -> bool:
    """Return whether a value is a table: it streams Arrow columns, or `datasets` can format it."""
    if isinstance(value, type | Mapping):
        return False
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "with_format")


def as_arrow_table(frame: Any) -> Any:
    """Convert a table in memory to an Arrow table.

    Raises:
        DataError: the value is not a table, or its columns are not Arrow columns.
    """
    import pyarrow

    if not is_data_frame(frame):
        raise DataError(
            f"the data is a {type(frame).__name__}, neither a file nor a table.",
            remedy="Give a file, or a DataFrame of pandas (2.2 or later) or polars, or one split "
            "of a datasets.Dataset; collect a LazyFrame first.",
        )
    try:
        arrow = hasattr(frame, "__arrow_c_stream__")
        table = pyarrow.table(frame if arrow else frame.with_format("arrow")[:])
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"the {type(frame).__name__} cannot be written as Parquet ({error}).",
            remedy="Give each column values of one type, such as str.",
        ) from None
    return table.select([name for name in table.column_names if not name.startswith(_INDEX)])


def save_data_frame(frame: Any, folder: Path) -> Path:
    """Write the rows into ``folder`` as ``data-HASH.parquet``, unless the file is there.

    Label names that `datasets` declares are stored with the rows.

    Raises:
        DataError: the value is not a table, its columns are not Arrow columns, or it cannot be
            written.
    """
    import pyarrow.parquet

    table = as_arrow_table(frame)
    # Equal rows have equal names, whichever library they came from.
    declared = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = declared.get("info", {}).get("features", {})
    names = {column: feature["names"] for column, feature in features.items() if "names" in feature}
    content = hashlib.sha256(json.dumps([table.column_names, names]).encode())
    for batch in table.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            content.update(json.dumps(row, default=str).encode())
    path = folder / f"data-{content.hexdigest()[:12]}.parquet"
    if not path.exists():
        try:
            with replace_file(path) as part:
                pyarrow.parquet.write_table(table, part)
        except OSError as error:
            raise DataError(f"cannot be written ({error.strerror}).", where=str(path)) from None
    return path
