"""The tables, and how an older store becomes a newer one.

``MIGRATIONS[n]`` brings version ``n`` to version ``n + 1``. A migration that was published never
changes: stores of every version exist. New wishes are new migrations at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from paretune.errors import StoreError
from paretune.store.sqlite.checksums import KEY_COLUMNS, PROTECTED_COLUMNS, write_checksums

APPLICATION_ID = 0x70617265
"""Marks the file as ours ("pare"), so that another program's database is not taken for a store."""

_FIRST = (
    """CREATE TABLE studies (
        study_hash TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        text TEXT NOT NULL,
        canonical TEXT NOT NULL,
        created REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        stage TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'running', 'done', 'failed')),
        owner TEXT,
        attempt INTEGER NOT NULL DEFAULT 0,
        lease_until REAL,
        progress TEXT,
        fail_kind TEXT,
        message TEXT,
        result TEXT,
        measured TEXT,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        CHECK ((state = 'running') = (owner IS NOT NULL)),
        CHECK ((state = 'running') = (lease_until IS NOT NULL)),
        CHECK ((state = 'failed') = (fail_kind IS NOT NULL)),
        CHECK ((state = 'done') = (result IS NOT NULL)),
        CHECK ((state IN ('done', 'failed')) = (ended IS NOT NULL))
    ) STRICT""",
    "CREATE INDEX runs_by_state ON runs (state)",
    # The run is kept for each study: names for display and places of files are no part of a
    # run's identity, so two studies may call one run by different names.
    """CREATE TABLE study_runs (
        study_hash TEXT NOT NULL REFERENCES studies,
        run_id TEXT NOT NULL REFERENCES runs,
        position INTEGER NOT NULL,
        run TEXT NOT NULL,
        PRIMARY KEY (study_hash, run_id),
        UNIQUE (study_hash, position)
    ) STRICT""",
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    """CREATE TRIGGER done_runs_never_change BEFORE UPDATE ON runs WHEN OLD.state = 'done'
        BEGIN SELECT RAISE(ABORT, 'a run that is done never changes'); END""",
    """CREATE TRIGGER done_runs_never_go BEFORE DELETE ON runs WHEN OLD.state = 'done'
        BEGIN SELECT RAISE(ABORT, 'a run that is done is never deleted'); END""",
    """CREATE TRIGGER runs_keep_their_identity BEFORE UPDATE OF run_id, stage ON runs
        WHEN OLD.run_id <> NEW.run_id OR OLD.stage <> NEW.stage
        BEGIN SELECT RAISE(ABORT, 'a run keeps its identity'); END""",
)

_CHECKSUMS = (
    *(f"ALTER TABLE {table} ADD COLUMN checksum TEXT" for table in KEY_COLUMNS),
    # A run of this study with data, a model or code that are no longer those it asks for.
    "ALTER TABLE study_runs ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0",
    # The result and its checksum are written one after the other, in one transaction.
    "DROP TRIGGER done_runs_never_change",
    """CREATE TRIGGER done_runs_never_change BEFORE UPDATE ON runs
        WHEN OLD.state = 'done' AND OLD.checksum IS NOT NULL
        BEGIN SELECT RAISE(ABORT, 'a run that is done never changes'); END""",
    """CREATE TABLE set_aside (
        what TEXT NOT NULL,
        content TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _CHECKSUMS)
TRIGGERS: Mapping[str, str] = {
    statement.split()[2]: statement
    for migration in MIGRATIONS
    for statement in migration
    if statement.startswith("CREATE TRIGGER")
}
"""The triggers by name, each as it is now."""
_SEALED = 2
"""The version from which rows have checksums; those of older stores get theirs as they are."""


def check_tables(connection: sqlite3.Connection, where: str) -> None:
    """Check that the tables have the columns that hold results.

    Raises:
        StoreError: the description of the tables in the file is damaged.
    """
    for table, keys in KEY_COLUMNS.items():
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if missing := {*keys, *PROTECTED_COLUMNS[table], "checksum"} - there:
            raise StoreError(
                f"the database file is damaged ({table} has no {', '.join(sorted(missing))}).",
                where=where,
                remedy="Restore study.db from a copy; done.jsonl beside it names what was done.",
            )


def create_or_migrate(connection: sqlite3.Connection, where: str, *, create: bool) -> None:
    """Create or migrate the tables; to be called inside a write transaction.

    Raises:
        StoreError: the file is another program's, empty though it should not be, or newer than
            this version of paretune.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and not create:
        raise StoreError(
            "holds no study yet.", where=where, remedy="paretune run STUDY.yaml fills it."
        )
    if not empty and not ours:
        raise StoreError(
            "is a database of another program.", where=where, remedy="Choose another folder."
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"was written by a newer paretune (store version {version}; this one reads up to "
            f"{len(MIGRATIONS)}).",
            where=where,
            remedy="Upgrade paretune; nothing was changed.",
        )
    for migration in MIGRATIONS[version:]:
        for statement in migration:
            connection.execute(statement)
    if version < _SEALED:
        for table in KEY_COLUMNS:
            write_checksums(connection, table, "ended IS NOT NULL" if table == "runs" else "true")
    if version < len(MIGRATIONS):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
