"""Takes the ended runs of one store into another; a run's id says what it is, wherever it ran."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from paretune.errors import StoreError
from paretune.store import rows, tables
from paretune.store.blobs import DROPPED_PREFIX, RESULT_BLOBS


@dataclass(frozen=True)
class StoreContent:
    """Rows that one store gives to another, as they were written; all are checked.

    Attributes:
        studies: rows of ``studies``.
        requests: rows of ended runs, with those of ``study_runs``, in the order of each study.
        settings: by key.
    """

    studies: Sequence[sqlite3.Row]
    requests: Sequence[sqlite3.Row]
    settings: Mapping[str, str]

    @classmethod
    def load(cls, db: sqlite3.Connection, where: str) -> Self:
        """All that has ended.

        Raises:
            StoreError: some changed since it was written; it is named.
        """
        studies = rows.load_study_rows(db, where)
        runs = [row for study in studies for row in rows.load_run_rows(db, study["study_hash"])]
        tables.raise_if_damaged(map(tables.find_run_damage, runs), where)
        ended = [row for row in runs if row["state"] in ("done", "failed")]
        return cls(studies, ended, rows.load_settings(db, where))

    @cached_property
    def runs(self) -> dict[str, sqlite3.Row]:
        """One row for each run, by id; two studies may ask for one."""
        runs: dict[str, sqlite3.Row] = {}
        for row in self.requests:
            runs.setdefault(row["run_id"], row)
        return runs

    def list_blobs(self, run_ids: Collection[str]) -> set[str]:
        """The sha256 of the blobs that these runs name, without weights that were dropped."""
        blobs: set[str] = set()
        for run_id in run_ids:
            result = json.loads(self.runs[run_id]["result"] or "{}")
            dropped = f"{DROPPED_PREFIX}{run_id}" in self.settings
            names = [name for name in RESULT_BLOBS if not (dropped and name == "weights")]
            blobs |= {result[name] for name in names if name in result}
        return blobs


@dataclass
class MergePlan:
    """The plan for each ended run of the other store, by run id.

    Attributes:
        added: runs that are not here, have not ended here, or failed here and were done there.
        present: runs that ended here with the same result, or failed there and were done here.
        contradictory: runs that were done in both, with different results.
        running: runs that a worker executes here now.
    """

    added: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)


def plan_merge(db: sqlite3.Connection, content: StoreContent) -> MergePlan:
    """Compare the ended runs of another store with the runs that are here.

    Raises:
        StoreError: a result is no JSON.
    """
    plan = MergePlan()
    for run_id, incoming in content.runs.items():
        row = db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None or row["state"] == "todo":
            plan.added.append(run_id)
        elif row["state"] == "running":
            (plan.added if rows.is_abandoned(row) else plan.running).append(run_id)
        elif row["state"] == "failed":
            (plan.added if incoming["state"] == "done" else plan.present).append(run_id)
        elif incoming["state"] == "failed":
            plan.present.append(run_id)
        else:
            # Measurements of time and memory differ always.
            try:
                is_same = json.loads(row["result"]) == json.loads(incoming["result"])
            except ValueError as error:
                raise StoreError(f"the result of run {run_id} is no JSON ({error}).") from None
            (plan.present if is_same else plan.contradictory).append(run_id)
    return plan


def put_content(db: sqlite3.Connection, content: StoreContent, plan: MergePlan) -> None:
    """Write the studies, the added runs and the settings that are not here yet."""
    for row in content.studies:
        columns = (*tables.KEY_COLUMNS["studies"], *tables.PROTECTED_COLUMNS["studies"], "checksum")
        _insert(db, "studies", {name: row[name] for name in columns})
    names = (*tables.KEY_COLUMNS["runs"], *tables.PROTECTED_COLUMNS["runs"])
    changed = [name for name in tables.PROTECTED_COLUMNS["runs"] if name != "stage"]
    assignments = ", ".join(f"{name} = ?" for name in changed)
    for run_id in plan.added:
        row = content.runs[run_id]
        if not _insert(db, "runs", {name: row[name] for name in names}):
            # In place of one that has not ended or failed.
            rows.reset_run(db, run_id)
            values = (*(row[name] for name in changed), run_id)
            db.execute(f"UPDATE runs SET {assignments} WHERE run_id = ?", values)  # noqa: S608
        tables.write_checksums(db, "runs", "run_id = ?", (run_id,))
    added = set(plan.added)
    for row in content.requests:
        if row["run_id"] not in added:
            continue
        # Behind the runs that the study has here; left alone where it has this one.
        position = db.execute(
            "SELECT coalesce(max(position) + 1, 0) FROM study_runs WHERE study_hash = ?",
            (row["study_hash"],),
        ).fetchone()[0]
        request = {name: row[name] for name in ("study_hash", "run_id", "run", "left_out")}
        if _insert(db, "study_runs", {**request, "position": position}):
            key = (row["study_hash"], row["run_id"])
            tables.write_checksums(db, "study_runs", "study_hash = ? AND run_id = ?", key)
    for setting, value in content.settings.items():
        of_run = setting.rpartition("/")[2]
        if of_run in added or of_run not in content.runs:
            rows.put_setting(db, setting, value, if_absent=True)


def _insert(db: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> bool:
    """Insert a row, unless there is one of its key; whether it was inserted."""
    marks = ", ".join("?" * len(values))
    statement = f"INSERT OR IGNORE INTO {table} ({', '.join(values)}) VALUES ({marks})"  # noqa: S608 (constants)
    return db.execute(statement, list(values.values())).rowcount > 0
