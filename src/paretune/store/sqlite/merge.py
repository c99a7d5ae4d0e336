"""Takes the ended runs of one store into another; a run's id says what it is, wherever it ran."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.errors import StoreError
from paretune.store.sqlite import queries
from paretune.store.sqlite.checksums import (
    KEY_COLUMNS,
    PROTECTED_COLUMNS,
    describe_stored_run,
    write_checksums,
)
from paretune.store.sqlite.claims import is_abandoned
from paretune.store.sqlite.verify import RESULT_BLOBS
from paretune.store.sqlite.writes import put_setting, reset_run


@dataclass(frozen=True)
class StoreContent:
    """What one store gives to another: rows as they were written, all checked.

    Attributes:
        studies: rows of ``studies``.
        runs: rows of ended runs, with those of ``study_runs``, in the order of each study.
        settings: by key.
    """

    studies: tuple[sqlite3.Row, ...]
    runs: tuple[sqlite3.Row, ...]
    settings: Mapping[str, str]


@dataclass
class MergePlan:
    """What happens to each ended run of the other store; run ids.

    Attributes:
        added: that are not here, or have not ended here, or failed here and were done there.
        present: that ended here with the same result, or that failed there and were done here.
        contradictory: that were done in both, with different results.
        running: that a worker executes here now.
    """

    added: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)


def load_content(db: sqlite3.Connection, where: str) -> StoreContent:
    """All that has ended, checked.

    Raises:
        StoreError: some changed since it was written; it is named.
    """
    entries = queries.load_studies(db, where)
    studies = db.execute("SELECT * FROM studies ORDER BY created, study_hash").fetchall()
    runs = [
        row
        for entry in entries
        for row in queries.load_checked_rows(db, entry.study_hash, where)
        if row["state"] in ("done", "failed")
    ]
    return StoreContent(tuple(studies), tuple(runs), queries.load_settings(db, where))


def plan_merge(db: sqlite3.Connection, content: StoreContent) -> MergePlan:
    """Compare the ended runs of another store with the runs that are here."""
    plan = MergePlan()
    for run_id, other in _distinct(content.runs).items():
        row = db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None or row["state"] == "todo":
            plan.added.append(run_id)
        elif row["state"] == "running":
            (plan.added if is_abandoned(row) else plan.running).append(run_id)
        elif row["state"] == "failed":
            (plan.added if other["state"] == "done" else plan.present).append(run_id)
        elif other["state"] == "failed" or _same_result(row, other):
            plan.present.append(run_id)
        else:
            plan.contradictory.append(run_id)
    return plan


def list_blobs(content: StoreContent, added: Collection[str], dropped: Collection[str]) -> set[str]:
    """The sha256 of the blobs that the added runs name, without weights that were dropped."""
    blobs: set[str] = set()
    for run_id, row in _distinct(content.runs).items():
        if run_id in added and row["result"]:
            result: Any = json.loads(row["result"])
            names = [n for n in RESULT_BLOBS if n != "weights" or run_id not in dropped]
            blobs |= {result[name] for name in names if name in result}
    return blobs


def put_content(db: sqlite3.Connection, content: StoreContent, plan: MergePlan) -> None:
    """Write the studies, the added runs and the settings that are not here yet."""
    added = set(plan.added)
    for row in content.studies:
        _insert(db, "studies", row)
    for run_id, row in _distinct(content.runs).items():
        if run_id in added:
            _put_run(db, row)
    positions: dict[str, int] = {}
    for row in content.runs:
        study = row["study_hash"]
        if study not in positions:
            positions[study] = db.execute(
                "SELECT coalesce(max(position) + 1, 0) FROM study_runs WHERE study_hash = ?",
                (study,),
            ).fetchone()[0]
        key = (study, row["run_id"])
        if (
            row["run_id"] not in added
            or db.execute(
                "SELECT 1 FROM study_runs WHERE study_hash = ? AND run_id = ?", key
            ).fetchone()
        ):
            continue
        db.execute(
            "INSERT INTO study_runs (study_hash, run_id, position, run, left_out) "
            "VALUES (?, ?, ?, ?, ?)",
            (*key, positions[study], row["run"], row["left_out"]),
        )
        positions[study] += 1
        write_checksums(db, "study_runs", "study_hash = ? AND run_id = ?", key)
    ended = set(_distinct(content.runs))
    for setting, value in content.settings.items():
        of_run = setting.rpartition("/")[2]
        if of_run in added or of_run not in ended:
            put_setting(db, setting, value, if_absent=True)


def describe_runs(content: StoreContent, run_ids: Iterable[str]) -> list[str]:
    """Which runs they are: ``cb-sl x tiny x lora, final, seed 3``."""
    rows = _distinct(content.runs)
    return [describe_stored_run(rows[run_id]["run"]) or run_id for run_id in run_ids]


def _put_run(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """The row of an ended run, in place of one that has not ended or failed."""
    names = (*KEY_COLUMNS["runs"], *PROTECTED_COLUMNS["runs"])
    if db.execute("SELECT 1 FROM runs WHERE run_id = ?", (row["run_id"],)).fetchone():
        reset_run(db, row["run_id"])
        changed = [n for n in PROTECTED_COLUMNS["runs"] if n != "stage"]
        assignments = ", ".join(f"{name} = ?" for name in changed)
        values = [row[name] for name in changed]
        db.execute(f"UPDATE runs SET {assignments} WHERE run_id = ?", (*values, row["run_id"]))  # noqa: S608 (constants)
    else:
        marks = ", ".join("?" * len(names))
        db.execute(
            f"INSERT INTO runs ({', '.join(names)}) VALUES ({marks})",  # noqa: S608 (constants)
            [row[name] for name in names],
        )
    write_checksums(db, "runs", "run_id = ?", (row["run_id"],))


def _insert(db: sqlite3.Connection, table: str, row: sqlite3.Row) -> None:
    """A row with its checksum, unless there is one of its key."""
    names = (*KEY_COLUMNS[table], *PROTECTED_COLUMNS[table], "checksum")
    marks = ", ".join("?" * len(names))
    db.execute(
        f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})",  # noqa: S608 (constants)
        [row[name] for name in names],
    )


def _distinct(rows: Iterable[sqlite3.Row]) -> dict[str, sqlite3.Row]:
    """One row for each run; two studies may ask for one."""
    by_id: dict[str, sqlite3.Row] = {}
    for row in rows:
        by_id.setdefault(row["run_id"], row)
    return by_id


def _same_result(row: sqlite3.Row, other: sqlite3.Row) -> bool:
    """Whether two results say the same; measurements of time and memory differ always.

    Raises:
        StoreError: one is no JSON.
    """
    try:
        return bool(json.loads(row["result"]) == json.loads(other["result"]))
    except ValueError as error:
        raise StoreError(f"the result of run {row['run_id']} is no JSON ({error}).") from None
