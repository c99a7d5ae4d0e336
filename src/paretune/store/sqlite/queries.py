"""From rows to values; inside the caller's transaction, which is one consistent state."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable

from paretune.owner import place_of
from paretune.store.journal import EndedRun
from paretune.store.record import Record
from paretune.store.sqlite.checksums import (
    describe_row_damage,
    describe_run_damage,
    describe_stored_run,
    find_changed_columns,
    find_run_damage,
    raise_if_damaged,
)
from paretune.store.sqlite.claims import RunParser, is_claimable, load_running
from paretune.store.status import RunStatus, StudyEntry

_RUN_STATUS_SQL = """SELECT position, run_id, run, stage, state, owner, attempt, lease_until,
    progress, started, ended, fail_kind, message, json_extract(result, '$.outcome') AS outcome,
    json_extract(result, '$.scores.test.primary') AS test,
    json_extract(result, '$.scores.selection.primary') AS selection
    FROM study_runs NOT INDEXED JOIN runs USING (run_id) WHERE study_hash = ? AND NOT left_out"""
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


def check_new_rows(db: sqlite3.Connection, study_hash: str, checked: set[str], where: str) -> None:
    """Check the runs of a study again where one of them was not checked yet in its present state.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    now = {
        f"{row['run_id']} {row['sealed']}"
        for row in db.execute(
            "SELECT run_id, state IS NULL OR ended IS NOT NULL OR runs.checksum IS NOT NULL AS "
            "sealed FROM study_runs NOT INDEXED LEFT JOIN runs USING (run_id) "
            "WHERE study_hash = ?",
            (study_hash,),
        )
    }
    if not now <= checked:
        load_checked_rows(db, study_hash, where)
        checked |= now


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


def load_run_statuses(
    db: sqlite3.Connection, study_hash: str, parse_run: RunParser, owner: str | None = None
) -> list[RunStatus]:
    """The status of each run of a study, in position order; claimable: by this owner."""
    running, now, place = load_running(db), time.time(), place_of(owner or "")
    return [
        RunStatus(
            run_id=row["run_id"],
            run=parse_run(study_hash, row["run_id"], row["run"]),
            state=row["state"],
            is_claimable=row["ended"] is None and is_claimable(row, running, place),
            owner=row["owner"],
            attempt=row["attempt"],
            progress=json.loads(row["progress"] or "{}"),
            seconds=None
            if row["started"] is None or row["state"] == "todo"
            else max(0.0, (row["ended"] or now) - row["started"]),  # the clock may be set back
            outcome=row["fail_kind"] or row["outcome"] or ("ok" if row["ended"] else None),
            score=row["selection"] if row["test"] is None else row["test"],
            message=row["message"],
            ended_at=row["ended"],
        )
        for row in _sort_by_position(db.execute(_RUN_STATUS_SQL, (study_hash,)))
    ]


def load_settings(db: sqlite3.Connection, where: str, key: str | None = None) -> dict[str, str]:
    """The setting of a key, or all settings.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    rows = db.execute("SELECT * FROM settings WHERE key = ? OR ? IS NULL", (key, key)).fetchall()
    _check_rows("settings", rows, where)
    return {str(row["key"]): str(row["value"]) for row in rows}


def load_ended_runs(db: sqlite3.Connection, run_id: str | None = None) -> list[EndedRun]:
    """The runs that have ended, or this one if it has, once for each study that has them."""
    rows = db.execute(
        "SELECT study_hash, run_id, run, state FROM study_runs JOIN runs USING (run_id) "
        "WHERE state IN ('done', 'failed') AND (run_id = ? OR ? IS NULL) "
        "ORDER BY study_hash, position",
        (run_id, run_id),
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
