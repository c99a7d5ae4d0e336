"""Does the store still say what was written? Every row and every blob is read."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from pydantic import ValidationError

from paretune.errors import StoreError
from paretune.store.blobs import read_blob
from paretune.study import Run, digest

_BLOBS = ("predictions", "weights")


def problems(db: sqlite3.Connection, blobs: Path) -> list[str]:
    """One sentence for each fault of the database, its rows and the blobs they name."""
    found = [
        f"study.db: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"
    ]
    found += [
        f"study.db: a row of {row[0]} points at a missing row of {row[2]}"
        for row in db.execute("PRAGMA foreign_key_check")
    ]
    for row in db.execute("SELECT study_hash, canonical FROM studies ORDER BY created"):
        if digest(json.loads(row["canonical"]))[:16] != row["study_hash"]:
            found.append(f"study {row['study_hash']}: its form does not give its hash")
    for row in db.execute("SELECT study_hash, run_id, run FROM study_runs ORDER BY 1, position"):
        try:
            Run.model_validate_json(row["run"])
        except ValidationError as error:
            found.append(f"run {row['run_id']}: cannot be read ({error.error_count()} faults)")
    for row in db.execute("SELECT run_id, result FROM runs WHERE state = 'done' ORDER BY run_id"):
        found += _result_problems(row["run_id"], row["result"], blobs)
    return found


def _result_problems(run_id: str, text: str, blobs: Path) -> list[str]:
    try:
        result = json.loads(text)
    except ValueError as error:
        return [f"run {run_id}: its result is no JSON ({error})"]
    found = []
    for sha256 in (result[name] for name in _BLOBS if name in result):
        try:
            read_blob(blobs, sha256)
        except StoreError as error:
            found.append(f"run {run_id}: {error}")
    return found
