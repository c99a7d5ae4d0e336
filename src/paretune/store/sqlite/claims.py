"""Which run a claim takes. All functions run inside the caller's write transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from paretune.owner import Place, is_bundle, is_provably_dead, place_of
from paretune.store.sqlite.checksums import (
    describe_run_damage,
    find_changed_columns,
    raise_if_damaged,
)
from paretune.store.status import Claim
from paretune.store.storage import Matches, MayStart
from paretune.study import Run

RunParser = Callable[[str, str, str], Run]
"""``(study_hash, run_id, json) -> Run``: the store parses the run of each row once."""

MAX_LEASE_SECONDS = 3600.0
MAX_BUNDLE_SECONDS = 30 * 24 * 3600.0
"""The longest lease of a bundle, which cannot be renewed."""
_OPEN_RUNS = """SELECT run_id, stage, state, owner, attempt, lease_until, study_hash, position,
    left_out, run, study_runs.checksum AS asked_checksum FROM study_runs JOIN runs USING (run_id)
    WHERE study_hash = ? AND state IN ('todo', 'running') AND runs.checksum IS NULL AND NOT left_out
    ORDER BY position"""


@dataclass(frozen=True)
class Claimant:
    """Who claims runs of which study, and for how long without renewal."""

    owner: str
    study_hash: str
    lease_seconds: float

    def __post_init__(self) -> None:
        if self.lease_seconds > (longest := _longest_lease(self.owner)):
            raise ValueError(f"a lease of {self.lease_seconds} s: more than {longest}")


def claim_first(
    db: sqlite3.Connection,
    claimant: Claimant,
    parse_run: RunParser,
    stages: tuple[str, ...] | None,
    may_start: MayStart | None,
) -> Claim | None:
    """Mark the first claimable run as running; None where none is claimable and may start."""
    place = place_of(claimant.owner)
    running, by_worker = load_running(db), _runs_by_worker(db, place)
    for row in db.execute(_OPEN_RUNS, (claimant.study_hash,)).fetchall():
        eligible = (stages is None or row["stage"] in stages) and is_claimable(row, running, place)
        if eligible and (may_start is None or may_start(row["run_id"], by_worker)):
            return _mark_running(db, row, claimant, parse_run)
    return None


def claim_matching(
    db: sqlite3.Connection,
    claimant: Claimant,
    parse_run: RunParser,
    matches: Matches,
    limit: int,
    workers: int,
) -> list[Claim]:
    """Mark up to ``limit`` claimable runs that match as running, in the order of the study.

    At most one part in ``workers`` of them, rounded up.
    """
    running, place = load_running(db), place_of(claimant.owner)
    study_hash = claimant.study_hash
    rows = [
        row
        for row in db.execute(_OPEN_RUNS, (study_hash,)).fetchall()
        if is_claimable(row, running, place)
        and matches(row["run_id"], parse_run(study_hash, row["run_id"], row["run"]))
    ]
    share = -(-len(rows) // workers)
    return [_mark_running(db, row, claimant, parse_run) for row in rows[: min(limit, share)]]


def prolong_leases(db: sqlite3.Connection, lease_seconds: float) -> None:
    """Let every claim hold for so many seconds from now at least."""
    db.execute(
        "UPDATE runs SET lease_until = max(lease_until, ?) WHERE state = 'running'",
        (time.time() + lease_seconds,),
    )


@dataclass(frozen=True)
class Running:
    """A run that is being executed now: its stage, and where (None: not known)."""

    stage: str
    place: Place | None


def load_running(db: sqlite3.Connection) -> set[Running]:
    """What is being executed now, of all studies in the store; not what is in bundles."""
    rows = db.execute("SELECT stage, owner, lease_until FROM runs WHERE state = 'running'")
    return {
        Running(row["stage"], place_of(row["owner"]))
        for row in rows
        if not (is_bundle(row["owner"]) or is_abandoned(row))
    }


def is_claimable(row: sqlite3.Row, running: set[Running], place: Place | None) -> bool:
    """Whether a claim from this place may take this todo or running row beside what runs now."""
    if row["stage"] == "cost":
        waits = any(_disturbs(other.place, place) for other in running)
    else:
        waits = any(o.stage == "cost" and _disturbs(place, o.place) for o in running)
    return not waits and (row["state"] == "todo" or is_abandoned(row))


def _disturbs(other: Place | None, cost: Place | None) -> bool:
    """Whether what runs in one place would disturb a cost that is measured in the other.

    A cost has its device for itself; one of a CPU has the whole machine, since whatever trains on
    a GPU beside it also uses cores and the bus to memory. A place that is not known disturbs.
    """
    if other is None or cost is None:
        return True
    return other.machine == cost.machine and (cost.device == "cpu" or other.device == cost.device)


def _mark_running(
    db: sqlite3.Connection, row: sqlite3.Row, claimant: Claimant, parse_run: RunParser
) -> Claim:
    if columns := find_changed_columns("study_runs", row, row["asked_checksum"]):
        raise_if_damaged([describe_run_damage(row, columns)], "study.db")
    now = time.time()
    db.execute(
        "UPDATE runs SET state = 'running', owner = ?, attempt = attempt + 1, "
        "lease_until = ?, started = ?, "
        # Until it reports a step, this attempt is at the last reported one.
        "progress = json_set(progress, '$.resumed_at', coalesce(json_extract(progress, "
        "'$.step'), 0)) "
        "WHERE run_id = ?",
        (claimant.owner, now + claimant.lease_seconds, now, row["run_id"]),
    )
    run = parse_run(claimant.study_hash, row["run_id"], row["run"])
    return Claim(row["run_id"], run, claimant.owner, row["attempt"] + 1, claimant.lease_seconds)


def _runs_by_worker(db: sqlite3.Connection, place: Place | None) -> list[list[str]]:
    """The runs of every worker that shares the memory of this place, of all studies in the store.

    Those of a worker whose place is not known, too.
    """
    running = "SELECT run_id, owner, lease_until FROM runs WHERE state = 'running'"
    by_owner: dict[str, list[str]] = {}
    for row in db.execute(running):
        shares = place is None or place_of(row["owner"]) in (place, None)
        shares = shares and not is_bundle(row["owner"])
        if shares and not is_abandoned(row):
            by_owner.setdefault(row["owner"], []).append(row["run_id"])
    return list(by_owner.values())


def is_abandoned(row: sqlite3.Row) -> bool:
    """Whether the claim of a running row has ended: its lease is over, or its owner is dead."""
    left_seconds = row["lease_until"] - time.time()
    # A lease that ends after the longest there is was begun before the clock was set back.
    longest = _longest_lease(row["owner"])
    return not 0 < left_seconds <= longest or is_provably_dead(row["owner"])


def _longest_lease(owner: str) -> float:
    return MAX_BUNDLE_SECONDS if is_bundle(owner) else MAX_LEASE_SECONDS
