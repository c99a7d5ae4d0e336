"""Rows of the tables, inside the caller's transaction; and which of them a claim takes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.owner import Place, is_provably_dead, place_of
from paretune.store import tables
from paretune.store.encoding import to_canonical_json

RUN_ROWS_SQL = """SELECT runs.*, study_hash, position, left_out, run,
    study_runs.checksum AS asked_checksum, study_runs.run_id AS asked_id
    FROM study_runs NOT INDEXED LEFT JOIN runs USING (run_id)"""
"""Runs with all their columns and both checksums.

The table ``study_runs`` is read itself: a damaged page of an index would silently leave out runs.
Where a run is not found by its index, all its columns are null.
"""
MAX_LEASE_SECONDS = 3600.0
OPEN_RUNS = """SELECT runs.*, study_hash, position, left_out, run,
    study_runs.checksum AS asked_checksum, study_runs.run_id AS asked_id
    FROM study_runs JOIN runs USING (run_id)
    WHERE study_hash = ? AND state IN ('todo', 'running') AND runs.checksum IS NULL
    AND NOT left_out ORDER BY position"""


def load_run_rows(db: sqlite3.Connection, study_hash: str) -> list[sqlite3.Row]:
    """All runs of a study by position, those left out too, not checked for damage.

    Sorted here, not by SQLite, which would move whole results about to do it.
    """
    rows = db.execute(f"{RUN_ROWS_SQL} WHERE study_hash = ?", (study_hash,))
    return sorted(rows, key=lambda row: str(row["position"]).rjust(20))


def load_study_rows(db: sqlite3.Connection, where: str) -> list[sqlite3.Row]:
    """All studies, oldest first.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    rows = db.execute("SELECT * FROM studies ORDER BY created, study_hash").fetchall()
    tables.raise_if_damaged((tables.find_row_damage("studies", row) for row in rows), where)
    return rows


def load_settings(
    db: sqlite3.Connection, where: str, condition: str = "TRUE", *values: str
) -> dict[str, str]:
    """The settings that an SQL condition is true of.

    Raises:
        StoreError: some changed since they were written; they are named.
    """
    rows = db.execute(f"SELECT * FROM settings WHERE {condition}", values).fetchall()  # noqa: S608
    tables.raise_if_damaged((tables.find_row_damage("settings", row) for row in rows), where)
    return {str(row["key"]): str(row["value"]) for row in rows}


def put_study(
    db: sqlite3.Connection, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
) -> None:
    """Keep a study file, in place of its earlier text where there is one."""
    db.execute(
        "INSERT INTO studies (study_hash, name, text, canonical, created) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (study_hash) DO UPDATE SET name = excluded.name, text = excluded.text, "
        "canonical = excluded.canonical",
        (study_hash, name, text, to_canonical_json(dict(canonical), "study"), time.time()),
    )
    tables.write_checksums(db, "studies", "study_hash = ?", (study_hash,))


def reset_run(db: sqlite3.Connection, run_id: str) -> None:
    """Make a run todo from its beginning, even a done one, and delete its settings."""
    trigger = "done_runs_never_change"
    db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    db.execute(
        "UPDATE runs SET state = 'todo', checksum = NULL, owner = NULL, lease_until = NULL, "
        "progress = NULL, fail_kind = NULL, message = NULL, result = NULL, measured = NULL, "
        "ended = NULL WHERE run_id = ?",
        (run_id,),
    )
    db.execute(tables.TRIGGERS[trigger])
    db.execute("DELETE FROM settings WHERE substr(key, instr(key, '/') + 1) = ?", (run_id,))


def put_setting(db: sqlite3.Connection, key: str, value: str, *, if_absent: bool = False) -> None:
    """Keep a value; with ``if_absent`` only where there is none yet."""
    on_conflict = "NOTHING" if if_absent else "UPDATE SET value = excluded.value"
    changed = db.execute(
        f"INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO {on_conflict}",  # noqa: S608
        (key, value),
    ).rowcount
    if changed:
        tables.write_checksums(db, "settings", "key = ?", (key,))


@dataclass(frozen=True)
class Moment:
    """The running runs of all studies at a moment, and what they allow a worker.

    Attributes:
        now: seconds since 1970.
        training_waits: training has to wait for a cost that is measured.
        cost_waits: a cost has to wait for runs that would disturb it.
        running: ids of the runs that are executed now on the asker's device.
    """

    now: float
    training_waits: bool
    cost_waits: bool
    running: Sequence[str]

    def is_claimable(self, row: sqlite3.Row) -> bool:
        """Whether who asks could claim the run of a row of ``runs``."""
        if self.cost_waits if row["stage"] == "cost" else self.training_waits:
            return False
        return row["state"] == "todo" or (row["state"] == "running" and is_abandoned(row))


def load_moment(db: sqlite3.Connection, owner: str | None, lease_seconds: float = 0.0) -> Moment:
    """Read which runs of all studies run now, and what they allow a claim by this owner.

    A worker whose place is not known may be anywhere.

    Raises:
        ValueError: the lease is longer than any may be.
    """
    if lease_seconds > MAX_LEASE_SECONDS:
        raise ValueError(f"a lease of {lease_seconds} s: more than {MAX_LEASE_SECONDS}")
    place = place_of(owner or "")
    running_here: list[str] = []
    training_waits = cost_waits = False
    for row in db.execute(
        "SELECT run_id, stage, owner, lease_until FROM runs WHERE state = 'running'"
    ):
        if not is_abandoned(row):
            worker_place = place_of(row["owner"])
            cost_waits |= _disturbs(worker_place, place)
            training_waits |= row["stage"] == "cost" and _disturbs(place, worker_place)
            if place is None or worker_place in (place, None):
                running_here.append(row["run_id"])
    return Moment(time.time(), training_waits, cost_waits, running_here)


def _disturbs(training: Place | None, cost: Place | None) -> bool:
    """Whether what runs in one place would disturb a cost that is measured in the other.

    A cost has its device for itself; one of a CPU has the whole machine, since whatever trains on
    a GPU beside it also uses cores and the bus to memory. A place that is not known disturbs.
    """
    if training is None or cost is None:
        return True
    return training.machine == cost.machine and (
        cost.device == "cpu" or training.device == cost.device
    )


def is_abandoned(row: sqlite3.Row) -> bool:
    """Whether the claim of a running row has ended: its lease is over, or its owner is dead.

    So has one that changed on the disk: whoever takes the run is told.
    """
    if not (isinstance(row["lease_until"], float) and isinstance(row["owner"], str)):
        return True
    left_seconds = row["lease_until"] - time.time()
    # A lease that ends after the longest there is was begun before the clock was set back.
    return not 0 < left_seconds <= MAX_LEASE_SECONDS or is_provably_dead(row["owner"])
