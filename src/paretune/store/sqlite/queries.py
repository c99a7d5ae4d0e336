"""From rows to values; inside the caller's transaction, which is one consistent state."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from paretune.store.journal import EndedRun
from paretune.store.record import Record
from paretune.store.sqlite.changes import has_changes, load_revision
from paretune.store.sqlite.checksums import (
    PROTECTED_COLUMNS,
    describe_row_damage,
    describe_run_damage,
    describe_stored_run,
    find_changed_columns,
    find_run_damage,
    raise_if_damaged,
)
from paretune.store.sqlite.claims import RunParser
from paretune.store.status import RunStatus, StudyEntry
from paretune.store.status_view import StatusChanges, StoredStatus
from paretune.study import Run

_STATUS_COLUMNS = f"""{", ".join(f"runs.{name}" for name in PROTECTED_COLUMNS["runs"])},
    runs.run_id, runs.checksum, owner, progress, study_hash, position, left_out, run,
    study_runs.checksum AS asked_checksum, study_runs.run_id AS asked_id,
    CASE WHEN json_valid(result) THEN json_extract(result, '$.outcome') END AS outcome,
    CASE WHEN json_valid(result) THEN json_extract(result, '$.scores.test.primary') END AS test,
    CASE WHEN json_valid(result) THEN json_extract(result, '$.scores.selection.primary') END
    AS selection"""
_ALL_STATUSES_SQL = f"""SELECT ? AS revision, '' AS name, {_STATUS_COLUMNS}
    FROM study_runs NOT INDEXED LEFT JOIN runs USING (run_id) WHERE study_hash = ?"""  # noqa: S608 (constants)
_CHANGED_STATUSES_SQL = f"""SELECT revision, name, {_STATUS_COLUMNS} FROM changes
    LEFT JOIN study_runs ON study_runs.run_id = name AND study_hash = ?
    LEFT JOIN runs ON runs.run_id = study_runs.run_id
    WHERE kind = 'run' AND revision > ? ORDER BY revision"""  # noqa: S608 (constants)
RUN_ROWS_SQL = """SELECT runs.*, study_hash, position, left_out, run,
    study_runs.checksum AS asked_checksum, study_runs.run_id AS asked_id
    FROM study_runs NOT INDEXED LEFT JOIN runs USING (run_id)"""
"""Runs with all their columns and both checksums.

The table ``study_runs`` is read itself: a damaged page of an index would silently leave out runs.
Where a run is not found by its index, all its columns are null.
"""


def load_checked_rows(db: sqlite3.Connection, study_hash: str, where: str) -> list[sqlite3.Row]:
    """All runs of a study as they were written, those left out too.

    Raises:
        StoreError: some changed since; they are named.
    """
    rows = _sort_by_position(db.execute(f"{RUN_ROWS_SQL} WHERE study_hash = ?", (study_hash,)))
    damages = [describe_run_damage(r, columns) for r in rows if (columns := find_run_damage(r))]
    raise_if_damaged(damages, where)
    return rows


def load_studies(db: sqlite3.Connection, where: str) -> list[StudyEntry]:
    """All studies with the number of their runs by state, oldest first.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    rows = db.execute("SELECT * FROM studies ORDER BY created, study_hash").fetchall()
    _check_rows("studies", rows, where)
    counts: dict[str, dict[str, int]] = {}
    for row in db.execute(
        "SELECT study_hash, state, count(*) AS n FROM study_runs NOT INDEXED "
        "JOIN runs USING (run_id) "
        "WHERE NOT left_out GROUP BY study_hash, state ORDER BY state"
    ):
        counts.setdefault(row["study_hash"], {})[row["state"]] = row["n"]
    return [
        StudyEntry(
            study_hash=row["study_hash"],
            name=row["name"],
            text=row["text"],
            created=row["created"],
            runs=counts.get(row["study_hash"], {}),
        )
        for row in rows
    ]


def load_records(
    db: sqlite3.Connection, study_hash: str, parse_run: RunParser, where: str
) -> list[Record]:
    """The records of the ended runs of a study in position order, without their predictions.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    return [
        Record(
            run_id=row["run_id"],
            run=parse_run(study_hash, row["run_id"], row["run"]),
            state=row["state"],
            fail_kind=row["fail_kind"],
            message=row["message"],
            result=json.loads(row["result"] or "{}"),
            measured=json.loads(row["measured"] or "{}"),
        )
        for row in load_checked_rows(db, study_hash, where)
        if row["ended"] is not None and not row["left_out"]
    ]


def load_status_changes(
    db: sqlite3.Connection, study_hash: str, since: int, parse_run: RunParser, where: str
) -> StatusChanges:
    """The runs of a study that changed after a revision; all with 0, or where none is numbered.

    Raises:
        StoreError: some of them changed since they were written; they are named.
    """
    revision = load_revision(db) if has_changes(db) else 0
    complete = not 0 < since <= revision
    if complete:
        rows = db.execute(_ALL_STATUSES_SQL, (revision, study_hash)).fetchall()
    else:
        rows = db.execute(_CHANGED_STATUSES_SQL, (study_hash, since)).fetchall()
    present = [row for row in rows if row["asked_id"] is not None]
    damages = [describe_run_damage(r, columns) for r in present if (columns := find_run_damage(r))]
    raise_if_damaged(damages, where)
    changed = [
        _to_stored_status(row, parse_run(study_hash, row["run_id"], row["run"]))
        for row in present
        if not row["left_out"]
    ]
    gone = [row["name"] for row in rows if row["asked_id"] is None or row["left_out"]]
    return StatusChanges(revision, changed, [] if complete else gone, complete)


def _to_stored_status(row: sqlite3.Row, run: Run) -> StoredStatus:
    started, ended = row["started"], row["ended"]
    status = RunStatus(
        run_id=row["run_id"],
        run=run,
        state=row["state"],
        is_claimable=False,
        owner=row["owner"],
        attempt=row["attempt"],
        progress=json.loads(row["progress"] or "{}"),
        # The clock may be set back.
        seconds=None if started is None or ended is None else max(0.0, ended - started),
        outcome=row["fail_kind"] or row["outcome"] or ("ok" if ended else None),
        score=row["selection"] if row["test"] is None else row["test"],
        message=row["message"],
        ended_at=ended,
    )
    begun = started if row["state"] == "running" else None
    return StoredStatus(row["revision"], row["position"], status, begun)


def load_setting(db: sqlite3.Connection, where: str, key: str) -> str | None:
    """The setting of a key, or None.

    Raises:
        StoreError: it changed since it was written.
    """
    rows = db.execute("SELECT * FROM settings WHERE key = ?", (key,)).fetchall()
    _check_rows("settings", rows, where)
    return str(rows[0]["value"]) if rows else None


def load_settings(db: sqlite3.Connection, where: str, prefix: str = "") -> dict[str, str]:
    """The settings whose keys begin so.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    begins_so = "SELECT * FROM settings WHERE substr(key, 1, ?) = ?"
    rows = db.execute(begins_so, (len(prefix), prefix)).fetchall()
    _check_rows("settings", rows, where)
    return {str(row["key"]): str(row["value"]) for row in rows}


def load_ended_runs(db: sqlite3.Connection, run_id: str | None = None) -> list[EndedRun]:
    """The runs that have ended, or this one if it has, once for each study that has them."""
    columns = "SELECT study_hash, run_id, run, state"
    ended = "state IN ('done', 'failed') ORDER BY study_hash, position"
    if run_id is None:
        rows = db.execute(f"{columns} FROM study_runs JOIN runs USING (run_id) WHERE {ended}")
    else:  # by the index of study_runs, which begins with the study
        rows = db.execute(
            f"{columns} FROM studies CROSS JOIN study_runs USING (study_hash) "
            f"CROSS JOIN runs USING (run_id) WHERE run_id = ? AND {ended}",
            (run_id,),
        )
    return [
        EndedRun(
            study_hash=row["study_hash"],
            run_id=row["run_id"],
            description=describe_stored_run(row["run"]),
            failed=row["state"] == "failed",
        )
        for row in rows
    ]


def find_lost_runs(
    db: sqlite3.Connection, journal: Iterable[EndedRun], study_hash: str | None = None
) -> list[EndedRun]:
    """Those runs of the journal that the database no longer has as ended, each once.

    A run that failed may be tried again: it is lost only where the study no longer has it. Runs
    that were set aside are not lost: they will be executed again. The table itself is read: an
    index may still name a row that a damaged page has lost.
    """
    present = {
        (row["study_hash"], row["run_id"]): row["state"] == "done"
        for row in db.execute(
            "SELECT study_hash, run_id, state FROM study_runs NOT INDEXED "
            "JOIN runs USING (run_id) UNION ALL SELECT json_extract(content, '$.study_hash'), "
            "json_extract(content, '$.asked_id'), 'done' FROM set_aside WHERE what = 'study_runs'"
        )
    }
    aside = {
        row[0]
        for row in db.execute(
            "SELECT json_extract(content, '$.run_id') FROM set_aside WHERE what = 'runs'"
        )
    }
    lost = {
        run.run_id: run
        for run in journal
        if not present.get((run.study_hash, run.run_id), False)
        and not (run.failed and (run.study_hash, run.run_id) in present)
        and run.run_id not in aside
        and study_hash in (None, run.study_hash)
    }
    return list(lost.values())


def _sort_by_position(rows: Iterable[sqlite3.Row]) -> list[sqlite3.Row]:
    """Sorted here, not by SQLite, which would move whole results about to do it."""
    return sorted(rows, key=lambda row: str(row["position"]).rjust(20))


def _check_rows(table: str, rows: Iterable[sqlite3.Row], where: str) -> None:
    damages = [
        describe_row_damage(table, row, columns)
        for row in rows
        if (columns := find_changed_columns(table, row, row["checksum"]))
    ]
    raise_if_damaged(damages, where)
