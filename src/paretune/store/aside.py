"""Putting away what is damaged, so that it is made again. The rows are kept as they are."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

from paretune.errors import StoreError
from paretune.store.checksums import changed, said_of, said_of_run, seal
from paretune.store.reading import WHOLE
from paretune.store.schema import GUARDS


def set_aside(db: sqlite3.Connection) -> list[str]:
    """Move damaged rows into the table ``set_aside``; one sentence for each.

    A damaged run is todo again, from its beginning. What a study asks for, its text and what was
    set are written again by the next ``run``. To be called inside a write transaction.

    Raises:
        StoreError: two rows claim one key, so that the indexes cannot be made again.
    """
    said: list[str] = []
    try:
        db.execute("REINDEX")
    except sqlite3.IntegrityError as error:
        raise StoreError(
            f"the database file is damaged, and its indexes cannot be made again ({error}).",
            where="study.db",
            remedy="Restore study.db from a copy; done.jsonl beside it names what was done.",
        ) from error
    for name in lost_guards(db):
        db.execute(GUARDS[name])
        said.append(f"study.db: {name}, which guards what is done, was gone")
    begun: set[str] = set()
    for row in db.execute(WHOLE).fetchall():
        ended = row["checksum"] is not None or row["ended"] is not None
        columns = changed("runs", row, row["checksum"]) if ended else []
        if columns and row["run_id"] not in begun:
            begun.add(row["run_id"])
            said.append(said_of_run(row, columns))
            _keep(db, "runs", row)
            _begin_again(db, row["run_id"])
        there = row["state"] is not None
        columns = changed("study_runs", row, row["asked_checksum"]) if there else ["record"]
        if columns:
            said.append(said_of_run(row, columns))
            _keep(db, "study_runs", row)
            key = (row["study_hash"], row["asked_id"])
            db.execute("DELETE FROM study_runs WHERE study_hash = ? AND run_id = ?", key)
    for row in db.execute("SELECT * FROM settings").fetchall():
        if columns := changed("settings", row, row["checksum"]):
            said.append(said_of("settings", row, columns))
            _keep(db, "settings", row)
            db.execute("DELETE FROM settings WHERE key = ?", (row["key"],))
    for row in db.execute("SELECT * FROM studies").fetchall():
        if columns := changed("studies", row, row["checksum"]):
            said.append(said_of("studies", row, columns))
            _keep(db, "studies", row)
            seal(db, "studies", "study_hash = ?", (row["study_hash"],))
    return said


def lost_guards(db: sqlite3.Connection) -> list[str]:
    """The triggers that are gone: another program took them away."""
    there = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")}
    return [name for name in GUARDS if name not in there]


def _keep(db: sqlite3.Connection, table: str, row: sqlite3.Row) -> None:
    content: dict[str, Any] = {key: row[key] for key in row.keys()}  # noqa: SIM118 (a row, no dict)
    db.execute(
        "INSERT INTO set_aside VALUES (?, ?, ?)",
        (table, json.dumps(content, ensure_ascii=False), time.time()),
    )


def _begin_again(db: sqlite3.Connection, run_id: str) -> None:
    """Make a run todo, also one that is done, which no other statement may change."""
    guard = "done_runs_never_change"
    db.execute(f"DROP TRIGGER IF EXISTS {guard}")
    db.execute(
        "UPDATE runs SET state = 'todo', checksum = NULL, owner = NULL, lease_until = NULL, "
        "progress = NULL, fail_kind = NULL, message = NULL, result = NULL, measured = NULL, "
        "ended = NULL WHERE run_id = ?",
        (run_id,),
    )
    db.execute(GUARDS[guard])
