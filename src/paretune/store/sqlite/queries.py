"""From rows to values; inside the caller's transaction, which is one consistent state."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from paretune.store.record import Record
from paretune.store.sqlite.checksums import find_row_damage, find_run_damage, raise_if_damaged
from paretune.store.sqlite.claims import Moment, RunParser, load_moment
from paretune.store.status import RunStatus, StudyEntry
from paretune.study import Run

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
    raise_if_damaged([damage for row in rows if (damage := find_run_damage(row))], where)
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


def load_statuses(
    db: sqlite3.Connection,
    study_hash: str,
    owner: str | None,
    parse_run: RunParser,
    where: str,
    ended: dict[tuple[str, str, str], RunStatus],
) -> list[RunStatus]:
    """The statuses of the runs of a study, in order; claimable: by this owner.

    Args:
        ended: statuses of ended runs by run id and both checksums; those that are new are added.
            They never change, so a record is compared with its checksum once.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    moment = load_moment(db, owner)
    damages, statuses = [], []
    rows = db.execute(f"{RUN_ROWS_SQL} WHERE study_hash = ?", (study_hash,))
    for row in _sort_by_position(rows):
        key = (row["run_id"], row["checksum"], row["asked_checksum"])
        if (status := ended.get(key)) is None:
            if damage := find_run_damage(row):
                damages.append(damage)
                continue
            status = _make_status(row, parse_run(study_hash, row["run_id"], row["run"]), moment)
            if status.ended:
                ended[key] = status
        if not row["left_out"]:
            statuses.append(status)
    raise_if_damaged(damages, where)
    return statuses


def _make_status(row: sqlite3.Row, run: Run, moment: Moment) -> RunStatus:
    started = row["started"]
    end = moment.now if row["state"] == "running" else row["ended"]
    result = json.loads(row["result"] or "{}")
    scores = result.get("scores", {})
    return RunStatus(
        run_id=row["run_id"],
        run=run,
        state=row["state"],
        is_claimable=moment.is_claimable(row),
        owner=row["owner"],
        attempt=row["attempt"],
        progress=json.loads(row["progress"] or "{}"),
        # The clock may be set back.
        seconds=None if started is None or end is None else max(0.0, end - started),
        outcome=row["fail_kind"] or result.get("outcome") or ("ok" if row["ended"] else None),
        score=scores.get("test", scores.get("selection", {})).get("primary"),
        message=row["message"],
        ended_at=row["ended"],
    )


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


def _sort_by_position(rows: Iterable[sqlite3.Row]) -> list[sqlite3.Row]:
    """Sorted here, not by SQLite, which would move whole results about to do it."""
    return sorted(rows, key=lambda row: str(row["position"]).rjust(20))


def _check_rows(table: str, rows: Iterable[sqlite3.Row], where: str) -> None:
    damages = [damage for row in rows if (damage := find_row_damage(table, row))]
    raise_if_damaged(damages, where)
