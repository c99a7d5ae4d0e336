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
from paretune.store.status_view import Moment, StatusView
from paretune.store.storage import Matches, MayStart
from paretune.study import Run

RunParser = Callable[[str, str, str], Run]
"""``(study_hash, run_id, json) -> Run``: the store parses the run of each row once."""

MAX_LEASE_SECONDS = 3600.0
MAX_BUNDLE_SECONDS = 30 * 24 * 3600.0
"""The longest lease of a bundle, which cannot be renewed."""
_RUN_TO_CLAIM = """SELECT run_id, stage, state, owner, attempt, lease_until, study_hash, position,
    left_out, run, study_runs.checksum AS asked_checksum FROM study_runs JOIN runs USING (run_id)
    WHERE study_hash = ? AND run_id = ? AND state IN ('todo', 'running') AND runs.checksum IS NULL
    AND NOT left_out"""


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
    view: StatusView,
    parse_run: RunParser,
    stages: tuple[str, ...] | None,
    may_start: MayStart | None,
) -> Claim | None:
    """Mark the first claimable run as running; None where none is claimable and may start.

    ``view`` is of the study, and of this transaction.
    """
    moment = load_moment(db, claimant.owner)
    for stored in view.iterate_open():
        status = stored.status
        eligible = (stages is None or status.stage in stages) and moment.is_claimable(status)
        if eligible and (may_start is None or may_start(status.run_id, moment.by_worker)):
            claim = _mark_running(db, status.run_id, claimant, parse_run)
            if claim is not None:
                return claim
    return None


def claim_matching(
    db: sqlite3.Connection,
    claimant: Claimant,
    view: StatusView,
    parse_run: RunParser,
    matches: Matches,
    limit: int,
    workers: int,
) -> list[Claim]:
    """Mark up to ``limit`` claimable runs that match as running, in the order of the study.

    At most one part in ``workers`` of them, rounded up.
    """
    moment = load_moment(db, claimant.owner)
    matching = [
        stored.status.run_id
        for stored in view.iterate_open()
        if moment.is_claimable(stored.status) and matches(stored.status.run_id, stored.status.run)
    ]
    chosen = matching[: min(limit, -(-len(matching) // workers))]
    claims = [_mark_running(db, run_id, claimant, parse_run) for run_id in chosen]
    return [claim for claim in claims if claim is not None]


def prolong_leases(db: sqlite3.Connection, lease_seconds: float) -> None:
    """Let every claim hold for so many seconds from now at least."""
    db.execute(
        "UPDATE runs SET lease_until = max(lease_until, ?) WHERE state = 'running'",
        (time.time() + lease_seconds,),
    )


def load_moment(db: sqlite3.Connection, owner: str | None) -> Moment:
    """What is being executed now, of all studies, and what that means for a claim by this owner.

    What is in bundles disturbs no cost and needs no memory here. A worker whose place is not known
    may be anywhere.
    """
    place = place_of(owner or "")
    abandoned: set[str] = set()
    by_worker: dict[str, list[str]] = {}
    training_waits = cost_waits = False
    for row in db.execute(
        "SELECT run_id, stage, owner, lease_until FROM runs WHERE state = 'running'"
    ):
        if is_abandoned(row):
            abandoned.add(row["run_id"])
        elif not is_bundle(row["owner"]):
            other = place_of(row["owner"])
            cost_waits |= _disturbs(other, place)
            training_waits |= row["stage"] == "cost" and _disturbs(place, other)
            if place is None or other in (place, None):
                by_worker.setdefault(row["owner"], []).append(row["run_id"])
    running = list(by_worker.values())
    return Moment(time.time(), training_waits, cost_waits, frozenset(abandoned), running)


def _disturbs(other: Place | None, cost: Place | None) -> bool:
    """Whether what runs in one place would disturb a cost that is measured in the other.

    A cost has its device for itself; one of a CPU has the whole machine, since whatever trains on
    a GPU beside it also uses cores and the bus to memory. A place that is not known disturbs.
    """
    if other is None or cost is None:
        return True
    return other.machine == cost.machine and (cost.device == "cpu" or other.device == cost.device)


def _mark_running(
    db: sqlite3.Connection, run_id: str, claimant: Claimant, parse_run: RunParser
) -> Claim | None:
    """The claim; None where the table itself does not have the run as one that can be claimed."""
    row = db.execute(_RUN_TO_CLAIM, (claimant.study_hash, run_id)).fetchone()
    if row is None or (row["state"] == "running" and not is_abandoned(row)):
        return None
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


def is_abandoned(row: sqlite3.Row) -> bool:
    """Whether the claim of a running row has ended: its lease is over, or its owner is dead."""
    left_seconds = row["lease_until"] - time.time()
    # A lease that ends after the longest there is was begun before the clock was set back.
    longest = _longest_lease(row["owner"])
    return not 0 < left_seconds <= longest or is_provably_dead(row["owner"])


def _longest_lease(owner: str) -> float:
    return MAX_BUNDLE_SECONDS if is_bundle(owner) else MAX_LEASE_SECONDS
