"""From rows to values. All functions run inside the caller's transaction: one consistent state."""

from __future__ import annotations

import json
import sqlite3
import time

from paretune.store.queue import RunOf, alive_stages, is_free
from paretune.store.record import Record
from paretune.store.rows import RunState, StudyRow

_STATES = """SELECT run_id, run, stage, state, owner, attempt, lease_until, progress, started,
    ended, fail_kind, message, json_extract(result, '$.outcome') AS outcome,
    json_extract(result, '$.scores.test.primary') AS test,
    json_extract(result, '$.scores.selection.primary') AS selection
    FROM study_runs JOIN runs USING (run_id) WHERE study_hash = ? ORDER BY position"""
_RECORDS = """SELECT run_id, run, state, fail_kind, message, result, measured
    FROM study_runs JOIN runs USING (run_id)
    WHERE study_hash = ? AND state IN ('done', 'failed') ORDER BY position"""


def study_rows(db: sqlite3.Connection) -> list[StudyRow]:
    """All studies with the number of their runs by state, oldest first."""
    counts: dict[str, dict[str, int]] = {}
    for row in db.execute(
        "SELECT study_hash, state, count(*) AS n FROM study_runs JOIN runs USING (run_id) "
        "GROUP BY study_hash, state ORDER BY state"
    ):
        counts.setdefault(row["study_hash"], {})[row["state"]] = row["n"]
    return [
        StudyRow(
            study_hash=row["study_hash"],
            name=row["name"],
            text=row["text"],
            created=row["created"],
            runs=counts.get(row["study_hash"], {}),
        )
        for row in db.execute("SELECT * FROM studies ORDER BY created, study_hash")
    ]


def ended_records(db: sqlite3.Connection, study_hash: str, run_of: RunOf) -> list[Record]:
    """The ended runs of a study in position order, without their predictions."""
    return [
        Record(
            run_id=row["run_id"],
            run=run_of(study_hash, row["run_id"], row["run"]),
            state=row["state"],
            fail_kind=row["fail_kind"],
            message=row["message"],
            result=json.loads(row["result"] or "{}"),
            measured=json.loads(row["measured"] or "{}"),
        )
        for row in db.execute(_RECORDS, (study_hash,))
    ]


def run_states(db: sqlite3.Connection, study_hash: str, run_of: RunOf) -> list[RunState]:
    """How each run of a study stands, in position order."""
    alive, now = alive_stages(db), time.time()
    return [
        RunState(
            run_id=row["run_id"],
            run=run_of(study_hash, row["run_id"], row["run"]),
            state=row["state"],
            free=row["ended"] is None and is_free(row, alive),
            owner=row["owner"],
            attempt=row["attempt"],
            progress=json.loads(row["progress"] or "{}"),
            seconds=None
            if row["started"] is None or row["state"] == "todo"
            else (row["ended"] or now) - row["started"],
            outcome=row["fail_kind"] or row["outcome"] or ("ok" if row["ended"] else None),
            score=row["selection"] if row["test"] is None else row["test"],
            message=row["message"],
        )
        for row in db.execute(_STATES, (study_hash,))
    ]
