"""Which run a claim may take. All functions run inside the caller's transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from paretune.store.checksums import changed, refuse_damaged, said_of_run
from paretune.store.owner import provably_dead
from paretune.store.rows import Claim
from paretune.study import Run

Admits = Callable[[str, list[list[str]]], bool]
"""``(run_id, runs of each worker) -> bool``: whether a run may start beside those."""
RunOf = Callable[[str, str, str], Run]
"""``(study_hash, run_id, json) -> Run``: the store parses each row's run once."""

_OPEN_RUNS = """SELECT run_id, stage, state, owner, attempt, lease_until, study_hash, position,
    left_out, run, study_runs.checksum AS asked_checksum FROM study_runs JOIN runs USING (run_id)
    WHERE study_hash = ? AND state IN ('todo', 'running') AND runs.checksum IS NULL AND NOT left_out
    ORDER BY position"""


def take_first(
    db: sqlite3.Connection,
    owner: str,
    study_hash: str,
    stages: tuple[str, ...] | None,
    lease_seconds: float,
    run_of: RunOf,
    admits: Admits | None = None,
) -> Claim | None:
    """Mark the first free run as running by ``owner``; None where none is free and admitted."""
    alive, held = alive_stages(db), _held(db)
    for row in db.execute(_OPEN_RUNS, (study_hash,)).fetchall():
        free = (stages is None or row["stage"] in stages) and is_free(row, alive)
        if free and (admits is None or admits(row["run_id"], held)):
            return _take(db, row, owner, study_hash, lease_seconds, run_of)
    return None


def take_alike(
    db: sqlite3.Connection,
    owner: str,
    study_hash: str,
    alike: Callable[[str, Run], bool],
    most: int,
    workers: int,
    lease_seconds: float,
    run_of: RunOf,
) -> list[Claim]:
    """Mark the first free runs that are alike as running by ``owner``, in the order of the study.

    At most ``most``, and no more than leaves each of ``workers`` its part.
    """
    alive = alive_stages(db)
    free = [
        row
        for row in db.execute(_OPEN_RUNS, (study_hash,)).fetchall()
        if is_free(row, alive)
        and alike(row["run_id"], run_of(study_hash, row["run_id"], row["run"]))
    ]
    taken = free[: min(most, -(-len(free) // workers))]
    return [_take(db, row, owner, study_hash, lease_seconds, run_of) for row in taken]


def _take(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    owner: str,
    study_hash: str,
    lease_seconds: float,
    run_of: RunOf,
) -> Claim:
    if columns := changed("study_runs", row, row["asked_checksum"]):
        refuse_damaged([said_of_run(row, columns)], "study.db")
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


def alive_stages(db: sqlite3.Connection) -> set[str]:
    """Stages of the runs that are being executed now, of all studies in the store."""
    running = "SELECT stage, owner, lease_until FROM runs WHERE state = 'running'"
    return {row["stage"] for row in db.execute(running) if not _abandoned(row)}


def _held(db: sqlite3.Connection) -> list[list[str]]:
    """The runs of every worker that executes some now, of all studies in the store."""
    running = "SELECT run_id, owner, lease_until FROM runs WHERE state = 'running'"
    found: dict[str, list[str]] = {}
    for row in db.execute(running):
        if not _abandoned(row):
            found.setdefault(row["owner"], []).append(row["run_id"])
    return list(found.values())


def is_free(row: sqlite3.Row, alive: set[str]) -> bool:
    """Whether a claim may take this todo or running row while ``alive`` stages are executed."""
    if "cost" in alive or (row["stage"] == "cost" and alive):
        return False
    return row["state"] == "todo" or _abandoned(row)


def _abandoned(row: sqlite3.Row) -> bool:
    return bool(row["lease_until"] <= time.time() or provably_dead(row["owner"]))
