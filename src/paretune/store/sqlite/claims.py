"""Which run a claim takes. All functions run inside the caller's write transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paretune.owner import Place, is_provably_dead, place_of
from paretune.store.sqlite.checksums import find_run_damage, raise_if_damaged
from paretune.store.status import Claim
from paretune.store.storage import Matches, MayStart
from paretune.study import Run

RunParser = Callable[[str, str, str], Run]
"""``(study_hash, run_id, json) -> Run``: the store parses the run of each row once."""

MAX_LEASE_SECONDS = 3600.0
_OPEN_RUNS = """SELECT run_id, run_id AS asked_id, stage, state, owner, attempt, lease_until,
    study_hash, position, left_out, run, runs.checksum, study_runs.checksum AS asked_checksum
    FROM study_runs JOIN runs USING (run_id)
    WHERE study_hash = ? AND state IN ('todo', 'running') AND runs.checksum IS NULL
    AND NOT left_out ORDER BY position"""


@dataclass(frozen=True)
class Claimant:
    """Who claims runs of which study, and for how long without renewal."""

    owner: str
    study_hash: str
    lease_seconds: float
    checkpoints: Path

    def __post_init__(self) -> None:
        if self.lease_seconds > MAX_LEASE_SECONDS:
            raise ValueError(f"a lease of {self.lease_seconds} s: more than {MAX_LEASE_SECONDS}")


@dataclass(frozen=True)
class Moment:
    """What is being executed now, of all studies, and what that means for who asks.

    Attributes:
        now: seconds since 1970.
        training_waits: for a cost that is measured; ``cost_waits``: for what would disturb it.
        by_worker: the runs that each worker executes now on the asker's device.
    """

    now: float
    training_waits: bool
    cost_waits: bool
    by_worker: Sequence[Sequence[str]]

    def is_claimable(self, row: sqlite3.Row) -> bool:
        """Whether who asks could claim the run of a row of ``runs``."""
        if self.cost_waits if row["stage"] == "cost" else self.training_waits:
            return False
        return row["state"] == "todo" or (row["state"] == "running" and is_abandoned(row))


def claim_first(
    db: sqlite3.Connection,
    claimant: Claimant,
    parse_run: RunParser,
    stages: tuple[str, ...] | None,
    may_start: MayStart | None,
) -> Claim | None:
    """Mark the first claimable run as running; None where none is claimable and may start."""
    moment = load_moment(db, claimant.owner)
    for row in db.execute(_OPEN_RUNS, (claimant.study_hash,)).fetchall():
        eligible = (stages is None or row["stage"] in stages) and moment.is_claimable(row)
        if eligible and (may_start is None or may_start(row["run_id"], moment.by_worker)):
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
    moment = load_moment(db, claimant.owner)
    matching = [
        row
        for row in db.execute(_OPEN_RUNS, (claimant.study_hash,)).fetchall()
        if moment.is_claimable(row)
        and matches(row["run_id"], parse_run(claimant.study_hash, row["run_id"], row["run"]))
    ]
    chosen = matching[: min(limit, -(-len(matching) // workers))]
    return [_mark_running(db, row, claimant, parse_run) for row in chosen]


def load_moment(db: sqlite3.Connection, owner: str | None) -> Moment:
    """What is being executed now, of all studies, and what that means for a claim by this owner.

    A worker whose place is not known may be anywhere.
    """
    place = place_of(owner or "")
    by_worker: dict[str, list[str]] = {}
    training_waits = cost_waits = False
    for row in db.execute(
        "SELECT run_id, stage, owner, lease_until FROM runs WHERE state = 'running'"
    ):
        if not is_abandoned(row):
            other = place_of(row["owner"])
            cost_waits |= _disturbs(other, place)
            training_waits |= row["stage"] == "cost" and _disturbs(place, other)
            if place is None or other in (place, None):
                by_worker.setdefault(row["owner"], []).append(row["run_id"])
    return Moment(time.time(), training_waits, cost_waits, list(by_worker.values()))


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
    if damage := find_run_damage(row):
        raise_if_damaged([damage], "study.db")
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
    return Claim(
        run,
        claimant.checkpoints / f"{row['run_id']}.safetensors",
        run_id=row["run_id"],
        owner=claimant.owner,
        attempt=row["attempt"] + 1,
        lease_seconds=claimant.lease_seconds,
    )


def is_abandoned(row: sqlite3.Row) -> bool:
    """Whether the claim of a running row has ended: its lease is over, or its owner is dead."""
    left_seconds = row["lease_until"] - time.time()
    # A lease that ends after the longest there is was begun before the clock was set back.
    return not 0 < left_seconds <= MAX_LEASE_SECONDS or is_provably_dead(row["owner"])
