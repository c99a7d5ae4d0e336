"""Whether the store still holds what was written: every row and every blob is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paretune.errors import StoreError
from paretune.store.blobs import read_blob
from paretune.store.sqlite.checksums import find_row_damage, find_run_damage
from paretune.store.sqlite.dropped_weights import list_dropped_runs
from paretune.store.sqlite.queries import RUN_ROWS_SQL
from paretune.store.sqlite.schema import TRIGGERS
from paretune.study import digest

RESULT_BLOBS = ("predictions", "weights")
"""Names under which a result has a blob."""


def find_problems(db: sqlite3.Connection, blobs: Path) -> list[str]:
    """One sentence for each fault of the database, its rows and the blobs they name."""
    problems = [
        f"study.db: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"
    ]
    problems += [
        f"study.db: a row of {row[0]} points at a missing row of {row[2]}"
        for row in db.execute("PRAGMA foreign_key_check")
    ]
    triggers = db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
    missing = TRIGGERS.keys() - {row[0] for row in triggers}
    problems += [
        f"study.db: {name}, which guards what is done, is gone" for name in sorted(missing)
    ]
    for table, order in (("studies", "created"), ("settings", "key")):
        for row in db.execute(f"SELECT * FROM {table} ORDER BY {order}"):  # noqa: S608 (constants)
            if damage := find_row_damage(table, row):
                problems.append(damage)
            elif table == "studies" and not _matches_hash(row):
                problems.append(f"study {row['study_hash']}: its form does not give its hash")
    for row in db.execute(f"{RUN_ROWS_SQL} ORDER BY study_hash, position"):
        if damage := find_run_damage(row):
            problems.append(damage)
    blob_problems = find_blob_problems(db, blobs)
    return [*problems, *(f"run {run_id}: {what}" for run_id, what in blob_problems)]


def find_blob_problems(
    db: sqlite3.Connection, blobs: Path, study_hash: str | None = None
) -> Iterator[tuple[str, str]]:
    """The run id and a sentence for each blob that is missing or damaged.

    Of the runs of a study, or of all; weights that were dropped are not missing.
    """
    dropped = list_dropped_runs(db)
    for row in db.execute(
        "SELECT run_id, result FROM runs WHERE state = 'done' AND (? IS NULL OR run_id IN "
        "(SELECT run_id FROM study_runs WHERE study_hash = ?)) ORDER BY run_id",
        (study_hash, study_hash),
    ):
        try:
            result: Any = json.loads(row["result"])
            names = RESULT_BLOBS[:1] if row["run_id"] in dropped else RESULT_BLOBS
            for sha256 in [result[name] for name in names if name in result]:
                read_blob(blobs, sha256)
        except StoreError as error:
            yield row["run_id"], str(error)
        except (ValueError, TypeError) as error:
            yield row["run_id"], f"its result is no JSON ({error})"


def _matches_hash(row: sqlite3.Row) -> bool:
    return bool(digest(json.loads(row["canonical"]))[:16] == row["study_hash"])
