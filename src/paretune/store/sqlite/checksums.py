"""A SHA-256 of each row that results rest on, written in the transaction of the row.

Whatever is read is first compared with what was written: a digit that changed on the disk or by
another program is reported, and never shown as a result.
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
PROTECTED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "studies": ("name", "text", "canonical", "created"),
    "runs": (
        "stage",
        "state",
        "attempt",
        "fail_kind",
        "message",
        "result",
        "measured",
        "created",
        "started",
        "ended",
    ),
    "study_runs": ("position", "left_out", "run"),
    "settings": ("value",),
}
"""By table. A run that has not ended has no checksum yet: nothing of it is a result."""
DAMAGE_REMEDY = (
    "Restore study.db from a copy; without one, `paretune run STUDY --retry` executes the damaged "
    "runs again."
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


def has_changed(table: str, row: sqlite3.Row, checksum: str | None) -> bool:
    """Whether a row is not as it was written."""
    columns = (*KEY_COLUMNS[table], *PROTECTED_COLUMNS[table])
    return checksum != _compute_checksum(table, *(row[name] for name in columns))


def find_run_damage(row: sqlite3.Row) -> str | None:
    """What of a run of a study is damaged, as a sentence; None where all is as it was written.

    ``row`` has the columns of ``runs`` and ``study_runs``, and their checksums as ``checksum`` and
    ``asked_checksum``; those of ``runs`` are null where it is not found there.
    """
    if row["state"] is None:
        return _describe_run(row, "record is gone")
    if has_changed("study_runs", row, row["asked_checksum"]):
        return _describe_run(row, "request changed after it was written")
    ended = row["checksum"] is not None or row["state"] in ("done", "failed")
    if ended and has_changed("runs", row, row["checksum"]):
        return _describe_run(row, "record changed after it was written")
    return None


def describe_stored_run(text: str) -> str:
    """Which run it is: ``cb-sl x tiny x lora, final, seed 3``; "" where it cannot be read."""
    try:
        run = Run.model_validate_json(text)
    except ValidationError:
        return ""
    return f"{' x '.join(run.cell)}, {run.stage}, seed {run.seed}"


def find_row_damage(table: str, row: sqlite3.Row) -> str | None:
    """The same as :func:`find_run_damage` of a row of ``studies`` or ``settings``."""
    if not has_changed(table, row, row["checksum"]):
        return None
    what = {"studies": "study", "settings": "setting"}[table]
    return f"{what} {row[KEY_COLUMNS[table][0]]}: its record changed after it was written"


def raise_if_damaged(damages: Sequence[str], where: str) -> None:
    """Raise where there is damage.

    Raises:
        StoreError: it names up to three of them, and how many there are.
    """
    if not damages:
        return
    more = f"; and {len(damages) - 3} more" if len(damages) > 3 else ""
    raise StoreError(f"{'; '.join(damages[:3])}{more}.", where=where, remedy=DAMAGE_REMEDY)


def _describe_run(row: sqlite3.Row, damage: str) -> str:
    which = describe_stored_run(row["run"])
    return f"run {row['asked_id']}{f' ({which})' if which else ''}: its {damage}"


def _compute_checksum(table: str, *values: Any) -> str:
    text = json.dumps([table, *values], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
