"""A checksum for each column that results rest on, written in the transaction of the row.

Whatever is read is first compared with what was written: a digit that changed on the disk or by
another program is reported by run and column, and never shown as a result.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from paretune.errors import StoreError
from paretune.study import Run

KEY_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "studies": ("study_hash",),
    "runs": ("run_id",),
    "study_runs": ("study_hash", "run_id"),
    "settings": ("key",),
}
_RESULT_COLUMNS = (
    "attempt",
    "fail_kind",
    "message",
    "result",
    "measured",
    "created",
    "started",
    "ended",
)
PROTECTED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "studies": ("name", "text", "canonical", "created"),
    "runs": ("stage", "state", *_RESULT_COLUMNS),
    "study_runs": ("position", "left_out", "run"),
    "settings": ("value",),
}
"""By table. A run that has not ended has no checksum yet: nothing of it is a result."""
_WHOLE_ROW = ""
SET_ASIDE_REMEDY = (
    "Restore study.db from a copy; without one, `paretune verify STUDY --set-aside` sets the "
    "damaged rows aside, and `paretune run` executes them again."
)


def write_checksums(
    db: sqlite3.Connection, table: str, where: str, values: Sequence[Any] = ()
) -> None:
    """Write the checksums of the rows of a table, as they are now in this transaction."""
    columns = ", ".join((*KEY_COLUMNS[table], *PROTECTED_COLUMNS[table]))
    db.execute(
        f"UPDATE {table} SET checksum = row_checksum('{table}', {columns}) WHERE {where}",  # noqa: S608 (constants)
        values,
    )


def register_checksum_function(connection: sqlite3.Connection) -> None:
    """Give the connection ``row_checksum``; bytes that are no text are read as damage."""
    connection.text_factory = lambda content: content.decode("utf-8", "replace")
    connection.create_function("row_checksum", -1, _compute_checksum, deterministic=True)


def find_changed_columns(table: str, row: sqlite3.Row, checksum: str | None) -> list[str]:
    """The columns of a row that are not as they were written."""
    if checksum is None:
        return ["checksum"]
    try:
        written = dict(json.loads(checksum))
    except (ValueError, TypeError):
        return ["checksum"]
    key = [row[name] for name in KEY_COLUMNS[table]]
    # The hash of the row suffices where nothing changed; those of the columns find what did.
    values = [row[name] for name in PROTECTED_COLUMNS[table]]
    if written.get(_WHOLE_ROW) == _hash_value(table, key, _WHOLE_ROW, values):
        return []
    return [
        column
        for column in PROTECTED_COLUMNS[table]
        if written.get(column) != _hash_value(table, key, column, row[column])
    ]


def find_run_damage(row: sqlite3.Row) -> list[str]:
    """The changed columns of a run of a study: a row of ``runs`` with ``run`` of ``study_runs``.

    ``row`` has all columns of both, and their checksums as ``checksum`` and ``asked_checksum``;
    those of ``runs`` are null where it is not found there.
    """
    if row["state"] is None:
        return ["record"]
    columns = find_changed_columns("study_runs", row, row["asked_checksum"])
    if row["checksum"] is not None or row["state"] in ("done", "failed"):
        columns += find_changed_columns("runs", row, row["checksum"])
    return columns


def describe_stored_run(text: str) -> str:
    """Which run it is: ``cb-sl x tiny x lora, final, seed 3``; "" where it cannot be read."""
    try:
        run = Run.model_validate_json(text)
    except ValidationError:
        return ""
    return f"{' x '.join(run.cell)}, {run.stage}, seed {run.seed}"


def describe_run_damage(row: sqlite3.Row, columns: Sequence[str]) -> str:
    """``run ID (which it is): its result changed after it was written``."""
    which = describe_stored_run(row["run"])
    run_id = row["run_id"] or row["asked_id"]
    return f"run {run_id}{f' ({which})' if which else ''}: its {_format_columns(columns)}"


def describe_row_damage(table: str, row: sqlite3.Row, columns: Sequence[str]) -> str:
    """The same of a study or a setting."""
    what = {"studies": "study", "settings": "setting"}[table]
    return f"{what} {row[KEY_COLUMNS[table][0]]}: its {_format_columns(columns)}"


def raise_if_damaged(damages: Sequence[str], where: str) -> None:
    """Raise where there is damage.

    Raises:
        StoreError: it names up to three of them, and how many there are.
    """
    if not damages:
        return
    more = f"; and {len(damages) - 3} more" if len(damages) > 3 else ""
    raise StoreError(f"{'; '.join(damages[:3])}{more}.", where=where, remedy=SET_ASIDE_REMEDY)


def _format_columns(columns: Sequence[str]) -> str:
    was = "it was" if len(columns) == 1 else "they were"
    return f"{', '.join(columns)} changed after {was} written"


def _compute_checksum(table: str, *values: Any) -> str:
    keys, columns = len(KEY_COLUMNS[table]), PROTECTED_COLUMNS[table]
    key, rest = list(values[:keys]), values[keys:]
    hashes = {c: _hash_value(table, key, c, v) for c, v in zip(columns, rest, strict=True)}
    hashes[_WHOLE_ROW] = _hash_value(table, key, _WHOLE_ROW, list(rest))
    return json.dumps(hashes, separators=(",", ":"), sort_keys=True)


def _hash_value(table: str, key: list[Any], column: str, value: Any) -> str:
    text = json.dumps([table, *key, column, value], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
