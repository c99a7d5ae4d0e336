"""Sets damaged rows aside, unchanged, so that their runs are executed again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection
from typing import Any

from paretune.errors import StoreError
from paretune.store.sqlite.checksums import (
    describe_row_damage,
    describe_run_damage,
    find_changed_columns,
    write_checksums,
)
from paretune.store.sqlite.queries import RUN_ROWS_SQL
from paretune.store.sqlite.schema import TRIGGERS
from paretune.store.sqlite.writes import reset_run


def set_aside_damaged_rows(db: sqlite3.Connection) -> list[str]:
    """Move damaged rows into the table ``set_aside``; inside a write transaction.

    A damaged run is todo again, from its beginning. What a study asks for, its text and settings
    are written again by the next ``run``.

    Returns:
        One sentence for each row.

    Raises:
        StoreError: two rows claim one key, so that the indexes cannot be rebuilt.
    """
    try:
        db.execute("REINDEX")
    except sqlite3.IntegrityError as error:
        raise StoreError(
            f"the database file is damaged, and its indexes cannot be rebuilt ({error}).",
            where="study.db",
            remedy="Restore study.db from a copy; done.jsonl beside it names what was done.",
        ) from error
    sentences = []
    for name in find_missing_triggers(db):
        db.execute(TRIGGERS[name])
        sentences.append(f"study.db: {name}, which guards what is done, was gone")
    sentences += _set_runs_aside(db)
    for row in db.execute("SELECT * FROM settings").fetchall():
        if columns := find_changed_columns("settings", row, row["checksum"]):
            sentences.append(describe_row_damage("settings", row, columns))
            _keep_row(db, "settings", row)
            db.execute("DELETE FROM settings WHERE key = ?", (row["key"],))
    for row in db.execute("SELECT * FROM studies").fetchall():
        if columns := find_changed_columns("studies", row, row["checksum"]):
            sentences.append(describe_row_damage("studies", row, columns))
            _keep_row(db, "studies", row)
            write_checksums(db, "studies", "study_hash = ?", (row["study_hash"],))
    return sentences


def set_done_runs_aside(db: sqlite3.Connection, study_hash: str, unusable: Collection[str]) -> int:
    """Execute runs of a study again that are done; inside a write transaction; return how many.

    They are those named, and those that did not fit in memory.
    """
    outcome = "CASE WHEN json_valid(result) THEN json_extract(result, '$.outcome') END AS outcome"
    rows = db.execute(
        f"SELECT {outcome}, * FROM ({RUN_ROWS_SQL}) WHERE study_hash = ? AND state = 'done'",  # noqa: S608 (constants)
        (study_hash,),
    ).fetchall()
    again = [r for r in rows if r["run_id"] in unusable or r["outcome"] == "out_of_memory"]
    for row in again:
        _keep_row(db, "runs", row)
        reset_run(db, row["run_id"])
    return len(again)


def find_missing_triggers(db: sqlite3.Connection) -> list[str]:
    """The triggers that another program removed."""
    rows = db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
    present = {row[0] for row in rows}
    return [name for name in TRIGGERS if name not in present]


def _set_runs_aside(db: sqlite3.Connection) -> list[str]:
    sentences = []
    reset: set[str] = set()
    for row in db.execute(RUN_ROWS_SQL).fetchall():
        ended = row["checksum"] is not None or row["ended"] is not None
        columns = find_changed_columns("runs", row, row["checksum"]) if ended else []
        if columns and row["run_id"] not in reset:
            reset.add(row["run_id"])
            sentences.append(describe_run_damage(row, columns))
            _keep_row(db, "runs", row)
            reset_run(db, row["run_id"])
        is_missing = row["state"] is None
        columns = ["record"] if is_missing else _find_changed_request(row)
        if columns:
            sentences.append(describe_run_damage(row, columns))
            _keep_row(db, "study_runs", row)
            key = (row["study_hash"], row["asked_id"])
            db.execute("DELETE FROM study_runs WHERE study_hash = ? AND run_id = ?", key)
    return sentences


def _find_changed_request(row: sqlite3.Row) -> list[str]:
    return find_changed_columns("study_runs", row, row["asked_checksum"])


def _keep_row(db: sqlite3.Connection, table: str, row: sqlite3.Row) -> None:
    content: dict[str, Any] = {key: row[key] for key in row.keys()}  # noqa: SIM118 (a row, no dict)
    db.execute(
        "INSERT INTO set_aside VALUES (?, ?, ?)",
        (table, json.dumps(content, ensure_ascii=False), time.time()),
    )
