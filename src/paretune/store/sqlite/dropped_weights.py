"""Trained weights beyond a study's budget: marked first, then removed.

A run that is done never changes, so its result still names the blob; a setting says that it was
dropped. A blob is removed when every run that names it was marked, in a write transaction: a run
that ends at the same moment checks its blobs in one too (:meth:`paretune.store.Store.finish`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from paretune.store.blobs import blob_path

DROPPED_PREFIX = "dropped weights/"
"""Of settings by run id; the value is the blob's sha256."""
_WEIGHTS = "CASE WHEN json_valid(result) THEN json_extract(result, '$.weights') END"


def sum_weight_bytes(db: sqlite3.Connection, study_hash: str) -> int:
    """Bytes of the weights of a study's runs that are kept."""
    row = db.execute(
        "SELECT coalesce(sum(json_extract(result, '$.trained_bytes')), 0) AS bytes "  # noqa: S608
        f"FROM study_runs JOIN runs USING (run_id) WHERE study_hash = ? AND {_WEIGHTS} IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM settings WHERE key = ? || run_id)",
        (study_hash, DROPPED_PREFIX),
    ).fetchone()
    return int(row["bytes"])


def find_droppable(
    db: sqlite3.Connection, study_hash: str, run_ids: Sequence[str]
) -> dict[str, str]:
    """The weights' sha256 of those runs that no study of another name asks for."""
    droppable = {}
    for run_id in run_ids:
        row = db.execute(
            f"SELECT {_WEIGHTS} AS weights FROM runs "  # noqa: S608 (constants)
            "WHERE run_id = ? AND state = 'done' AND NOT EXISTS ("
            "SELECT 1 FROM study_runs JOIN studies USING (study_hash) WHERE run_id = runs.run_id "
            "AND name <> (SELECT name FROM studies WHERE study_hash = ?))",
            (run_id, study_hash),
        ).fetchone()
        if row is not None and row["weights"]:
            droppable[run_id] = str(row["weights"])
    return droppable


def clear_dropped_mark(db: sqlite3.Connection, run_id: str) -> None:
    """Forget that a run's weights were dropped: it was trained again."""
    db.execute("DELETE FROM settings WHERE key = ?", (f"{DROPPED_PREFIX}{run_id}",))


def list_dropped_runs(db: sqlite3.Connection) -> set[str]:
    """Ids of the runs whose weights were dropped."""
    keys = (str(row["key"]) for row in db.execute("SELECT key FROM settings"))
    return {key.removeprefix(DROPPED_PREFIX) for key in keys if key.startswith(DROPPED_PREFIX)}


def remove_dropped_blobs(db: sqlite3.Connection, blobs: Path) -> None:
    """Remove the blobs of marked runs that no other run names; in a write transaction."""
    dropped = list_dropped_runs(db)
    removable: dict[str, bool] = {}
    for row in db.execute(
        f"SELECT run_id, {_WEIGHTS} AS weights FROM runs WHERE state = 'done' "  # noqa: S608
        f"AND {_WEIGHTS} IS NOT NULL"
    ):
        sha256 = row["weights"]
        removable[sha256] = removable.get(sha256, True) and row["run_id"] in dropped
    for sha256, is_removable in removable.items():
        if is_removable:
            blob_path(blobs, sha256).unlink(missing_ok=True)
