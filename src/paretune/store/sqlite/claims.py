"""Which run a claim may take. All functions run inside the caller's transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from paretune.store.owner import is_provably_dead
from paretune.store.sqlite.checksums import (
    describe_run_damage,
    find_changed_columns,
    raise_if_damaged,
)
from paretune.store.status import Claim
from paretune.study import Run

AdmissionCheck = Callable[[str, list[list[str]]], bool]
"""``(run_id, runs of each worker) -> bool``: whether a run may start beside those."""
RunParser = Callable[[str, str, str], Run]
"""``(study_hash, run_id, json) -> Run``: the store parses each row's run once."""

_OPEN_RUNS = """SELECT run_id, stage, state, owner, attempt, lease_until, study_hash, position,
    left_out, run, study_runs.checksum AS asked_checksum FROM study_runs JOIN runs USING (run_id)
    WHERE study_hash = ? AND state IN ('todo', 'running') AND runs.checksum IS NULL AND NOT left_out
    ORDER BY position"""


def claim_first(
    db: sqlite3.Connection,
    owner: str,
    study_hash: str,
    stages: tuple[str, ...] | None,
    lease_seconds: float,
    run_of: RunParser,
    admits: AdmissionCheck | None = None,
) -> Claim | None:
    """Mark the first free run as running by ``owner``; None where none is free and admitted."""
    alive, held = running_stages(db), _runs_by_worker(db)
    for row in db.execute(_OPEN_RUNS, (study_hash,)).fetchall():
        free = (stages is None or row["stage"] in stages) and is_claimable(row, alive)
        if free and (admits is None or admits(row["run_id"], held)):
            return _mark_running(db, row, owner, study_hash, lease_seconds, run_of)
    return None


def claim_matching(
    db: sqlite3.Connection,
    owner: str,
    study_hash: str,
    alike: Callable[[str, Run], bool],
    most: int,
    workers: int,
    lease_seconds: float,
    run_of: RunParser,
) -> list[Claim]:
    """Mark the first free runs that are alike as running by ``owner``, in the order of the study.

    At most ``most``, and no more than leaves each of ``workers`` its part.
    """
    alive = running_stages(db)
    free = [
        row
        for row in db.execute(_OPEN_RUNS, (study_hash,)).fetchall()
        if is_claimable(row, alive)
        and alike(row["run_id"], run_of(study_hash, row["run_id"], row["run"]))
    ]
    taken = free[: min(most, -(-len(free) // workers))]
    return [_mark_running(db, row, owner, study_hash, lease_seconds, run_of) for row in taken]


def _mark_running(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    owner: str,
    study_hash: str,
    lease_seconds: float,
    run_of: RunParser,
) -> Claim:
    if columns := find_changed_columns("study_runs", row, row["asked_checksum"]):
        raise_if_damaged([describe_run_damage(row, columns)], "study.db")
    now = time.time()
    db.execute(
        "UPDATE runs SET state = 'running', owner = ?, attempt = attempt + 1, "
        "lease_until = ?, started = ?, "
        # Until it tells its step, this attempt is at the one that the last attempt has told.
        "progress = json_set(progress, '$.resumed_at', coalesce(json_extract(progress, "
        "'$.step'), 0)) "
        "WHERE run_id = ?",
        (owner, now + lease_seconds, now, row["run_id"]),
    )
    run = run_of(study_hash, row["run_id"], row["run"])
    return Claim(row["run_id"], run, owner, row["attempt"] + 1, lease_seconds)


def running_stages(db: sqlite3.Connection) -> set[str]:
    """Stages of the runs that are being executed now, of all studies in the store."""
    running = "SELECT stage, owner, lease_until FROM runs WHERE state = 'running'"
    return {row["stage"] for row in db.execute(running) if not _is_abandoned(row)}


def _runs_by_worker(db: sqlite3.Connection) -> list[list[str]]:
    """The runs of every worker that executes some now, of all studies in the store."""
    running = "SELECT run_id, owner, lease_until FROM runs WHERE state = 'running'"
    found: dict[str, list[str]] = {}
    for row in db.execute(running):
        if not _is_abandoned(row):
            found.setdefault(row["owner"], []).append(row["run_id"])
    return list(found.values())


def is_claimable(row: sqlite3.Row, alive: set[str]) -> bool:
    """Whether a claim may take this todo or running row while ``alive`` stages are executed."""
    if "cost" in alive or (row["stage"] == "cost" and alive):
        return False
    return row["state"] == "todo" or _is_abandoned(row)


def _is_abandoned(row: sqlite3.Row) -> bool:
    return bool(row["lease_until"] <= time.time() or is_provably_dead(row["owner"]))
