"""The tables of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from paretune.errors import StoreError
from paretune.store.sqlite.checksums import KEY_COLUMNS, PROTECTED_COLUMNS

APPLICATION_ID = 0x70617265
"""Marks the file as ours ("pare"), so that another program's database is not taken for a store."""
FORMAT = 3
"""Of the tables, as ``PRAGMA user_version``; a store of another one is refused."""

_TABLES = (
    """CREATE TABLE studies (
        study_hash TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        text TEXT NOT NULL,
        canonical TEXT NOT NULL,
        created REAL NOT NULL,
        checksum TEXT
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
        checksum TEXT,
        CHECK ((state = 'running') = (owner IS NOT NULL)),
        CHECK ((state = 'running') = (lease_until IS NOT NULL)),
        CHECK ((state = 'failed') = (fail_kind IS NOT NULL)),
        CHECK ((state = 'done') = (result IS NOT NULL)),
        CHECK ((state IN ('done', 'failed')) = (ended IS NOT NULL))
    ) STRICT""",
    "CREATE INDEX runs_by_state ON runs (state)",
    # The run is kept for each study: names for display and places of files are no part of a
    # run's identity, so two studies may call one run by different names. ``left_out``: a run of
    # this study with data, a model or code that are no longer those it asks for.
    """CREATE TABLE study_runs (
        study_hash TEXT NOT NULL REFERENCES studies,
        run_id TEXT NOT NULL REFERENCES runs,
        position INTEGER NOT NULL,
        run TEXT NOT NULL,
        checksum TEXT,
        left_out INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (study_hash, run_id),
        UNIQUE (study_hash, position)
    ) STRICT""",
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT) STRICT",
)
TRIGGERS: Mapping[str, str] = {
    # The result and its checksum are written one after the other, in one transaction.
    "done_runs_never_change": """CREATE TRIGGER done_runs_never_change BEFORE UPDATE ON runs
        WHEN OLD.state = 'done' AND OLD.checksum IS NOT NULL
        BEGIN SELECT RAISE(ABORT, 'a run that is done never changes'); END""",
    "done_runs_never_go": """CREATE TRIGGER done_runs_never_go BEFORE DELETE ON runs
        WHEN OLD.state = 'done'
        BEGIN SELECT RAISE(ABORT, 'a run that is done is never deleted'); END""",
    "runs_keep_their_identity": """CREATE TRIGGER runs_keep_their_identity
        BEFORE UPDATE OF run_id, stage ON runs
        WHEN OLD.run_id <> NEW.run_id OR OLD.stage <> NEW.stage
        BEGIN SELECT RAISE(ABORT, 'a run keeps its identity'); END""",
}
"""The triggers by name."""


_CHANGING = {"runs": ("owner", "lease_until", "progress")}
"""Columns by table that no result rests on."""


def check_tables(connection: sqlite3.Connection, where: str) -> None:
    """Check that the tables have all their columns.

    Raises:
        StoreError: the description of the tables in the file is damaged.
    """
    for table, keys in KEY_COLUMNS.items():
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        required = {*keys, *PROTECTED_COLUMNS[table], *_CHANGING.get(table, ()), "checksum"}
        if missing := required - columns:
            raise StoreError(
                f"the database file is damaged ({table} has no {', '.join(sorted(missing))}).",
                where=where,
                remedy="Restore study.db from a copy.",
            )


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of an empty database; inside a write transaction."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return  # another process has just done so, or it is another program's
    for statement in (*_TABLES, *TRIGGERS.values()):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def check_format(connection: sqlite3.Connection, where: str) -> None:
    """Check that the database is a store of this format.

    Raises:
        StoreError: it is empty, another program's, or of another format.
    """
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise StoreError("holds no study yet.", where=where, remedy="Run paretune run STUDY.yaml.")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(
            "is a database of another program.", where=where, remedy="Choose another folder."
        )
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > FORMAT:
        raise StoreError(
            f"was written by a newer paretune (format {version}; this version reads format "
            f"{FORMAT}).",
            where=where,
            remedy="Upgrade paretune; nothing was changed.",
        )
    if version < FORMAT:
        raise StoreError(
            f"was written by an older paretune (format {version}); this version reads format "
            f"{FORMAT}.",
            where=where,
            remedy="Run the study anew into another folder (--store FOLDER).",
        )
