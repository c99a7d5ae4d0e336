"""The tables of the database, and a SHA-256 of each row that results rest on.

The checksum is written in the transaction of the row. Whatever is read is first compared with what
was written: a digit that changed on the disk or by another program is reported, and never shown as
a result.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from paretune.errors import StoreError, spell_option
from paretune.study import Run

APPLICATION_ID = 0x70617265
"""Marks the file as ours ("pare"), so that another program's database is not taken for a store."""
FORMAT = 3
"""Format of the tables, as ``PRAGMA user_version``; a store of another one is refused."""

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
KEY_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "studies": ("study_hash",),
    "runs": ("run_id",),
    "study_runs": ("study_hash", "run_id"),
    "settings": ("key",),
}
PROTECTED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "studies": ("name", "text", "canonical", "created"),
    "runs": ("stage", "state", "attempt", "fail_kind", "message", "result", "measured", "created",
             "started", "ended"),
    "study_runs": ("position", "left_out", "run"),
    "settings": ("value",),
}  # fmt: skip
"""By table. A run that has not ended has no checksum yet: nothing of it is a result."""
DAMAGE_REMEDY = (
    "Restore study.db from a copy; without one, `paretune run STUDY --retry` executes the damaged "
    "runs again."
)
_CHANGING = {"runs": ("owner", "lease_until", "progress")}
"""Columns by table that no result rests on."""
_ENDED_STATES = ("done", "failed")


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of an empty database; inside a write transaction."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return  # another process has just done so, or it is another program's
    for statement in (*_TABLES, *TRIGGERS.values()):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def check_database(connection: sqlite3.Connection, where: str) -> None:
    """Check that the database is a store of this format, whose tables have all their columns.

    Raises:
        StoreError: it is empty, another program's, of another format, or damaged.
    """
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise StoreError("holds no study yet.", where=where, remedy="Run paretune run STUDY.yaml.")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(
            "is a database of another program.", where=where, remedy="Choose another folder."
        )
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != FORMAT:
        older = version < FORMAT
        store = spell_option("store", "FOLDER")
        anew = f"Run the study anew into another folder ({store})."
        raise StoreError(
            f"was written by {'an older' if older else 'a newer'} paretune (format {version}; this "
            f"version reads format {FORMAT}).",
            where=where,
            remedy=anew if older else "Upgrade paretune; nothing was changed.",
        )
    for table, keys in KEY_COLUMNS.items():
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        required = {*keys, *PROTECTED_COLUMNS[table], *_CHANGING.get(table, ()), "checksum"}
        if missing := required - columns:
            raise StoreError(
                f"the database file is damaged ({table} has no {', '.join(sorted(missing))}).",
                where=where,
                remedy="Restore study.db from a copy.",
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
    """Describe the damage of a study's run in a sentence; None where all is as it was written.

    ``row`` has the columns of ``runs`` and ``study_runs``, and their checksums as ``checksum`` and
    ``asked_checksum``; those of ``runs`` are null where it is not found there.
    """
    if row["state"] is None:
        damage = "record is gone"
    elif has_changed("study_runs", row, row["asked_checksum"]):
        damage = "request changed after it was written"
    elif _has_record_changed(row):
        damage = "record changed after it was written"
    elif not _has_readable_progress(row):
        damage = "progress changed after it was written"
    else:
        return None
    which = describe_stored_run(row["run"])
    return f"run {row['asked_id']}{f' ({which})' if which else ''}: its {damage}"


def _has_record_changed(row: sqlite3.Row) -> bool:
    """Whether a row of ``runs`` is not as it was written.

    One that has not ended has no checksum: it has changed where no statement leaves it so.
    """
    if row["checksum"] is not None or row["ended"] is not None or row["state"] in _ENDED_STATES:
        return has_changed("runs", row, row["checksum"])
    is_claimed = isinstance(row["owner"], str), isinstance(row["lease_until"], float)
    return not (
        all(row[name] is None for name in ("fail_kind", "message", "result", "measured"))
        and is_claimed == {"todo": (False, False), "running": (True, True)}.get(row["state"])
        and isinstance(row["attempt"], int)
        and isinstance(row["created"], float)
        and isinstance(row["started"], float | None)
    )


def _has_readable_progress(row: sqlite3.Row) -> bool:
    """Whether the progress of a row of ``runs`` is one that a worker may have written."""
    text = row["progress"]
    if text is None:
        return True
    try:
        progress = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return False
    return (
        isinstance(progress, dict)
        and all(isinstance(progress.get(name, 0), int) for name in ("step", "steps", "resumed_at"))
        and isinstance(progress.get("loss"), float | int | None)
    )


def describe_stored_run(text: str) -> str:
    """Name a run: ``cb-sl x tiny x lora, final, seed 3``; "" where it cannot be read."""
    try:
        run = Run.model_validate_json(text)
    except ValidationError:
        return ""
    return f"{' x '.join(run.cell)}, {run.stage}, seed {run.seed}"


def find_row_damage(table: str, row: sqlite3.Row) -> str | None:
    """Describe the damage of a row of ``studies`` or ``settings``, as :func:`find_run_damage`."""
    if not has_changed(table, row, row["checksum"]):
        return None
    what = {"studies": "study", "settings": "setting"}[table]
    return f"{what} {row[KEY_COLUMNS[table][0]]}: its record changed after it was written"


def raise_if_damaged(sentences: Iterable[str | None], where: str) -> None:
    """Raise StoreError where there is damage; it names up to three, and how many there are."""
    damages = [sentence for sentence in sentences if sentence]
    if not damages:
        return
    rest = f"; and {len(damages) - 3} more" if len(damages) > 3 else ""
    raise StoreError(f"{'; '.join(damages[:3])}{rest}.", where=where, remedy=DAMAGE_REMEDY)


def _compute_checksum(table: str, *values: Any) -> str:
    # Bytes are never written: where they are read, the row has changed.
    text = json.dumps([table, *values], ensure_ascii=False, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
