"""Blobs by content: ``blobs/ab/<sha256>``. A blob is whole under its name, or not there.

Trained weights beyond a study's budget are marked first, then removed. A run that is done never
changes, so its result still names the blob; a setting says that it was dropped. A blob is removed
when every run that names it was marked, in a write transaction: a run that ends at the same moment
checks its blobs in one too (:meth:`paretune.store.Store.finish`). To verify a store, every row and
every blob is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paretune.errors import StoreError
from paretune.files import part_path, replace_file, sync_folder
from paretune.store.rows import RUN_ROWS_SQL
from paretune.store.tables import TRIGGERS, find_row_damage, find_run_damage
from paretune.study import digest

RESULT_BLOBS = ("predictions", "weights")
"""Names under which a result has a blob."""
DROPPED_PREFIX = "dropped weights/"
"""Prefix of settings by run id; the value is the blob's SHA-256."""
STORED_WEIGHTS = "CASE WHEN json_valid(result) THEN json_extract(result, '$.weights') END"
_HASH = re.compile(r"[0-9a-f]{64}")


def blob_path(folder: Path, sha256: object) -> Path:
    """Path of a blob, whether or not it exists.

    Raises:
        StoreError: that is no name of a blob.
    """
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise StoreError(
            f"names a blob {sha256!r}, which is no sha256 in hexadecimal digits.",
            where=str(folder.parent / "study.db"),
            remedy="Restore study.db from a copy.",
        )
    return folder / sha256[:2] / sha256


def write_blob(folder: Path, content: bytes) -> str:
    """Store the content and return its sha256; on disk, names included, when this returns.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    path = blob_path(folder, sha256)
    try:
        if path.exists():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return sha256
        parts = folder / "part"
        parts.mkdir(parents=True, exist_ok=True)
        with replace_file(path, part=part_path(parts / "blob")) as part:
            part.write_bytes(content)
        sync_folder(folder)
    except OSError as error:
        raise StoreError(
            f"a blob cannot be written ({error.strerror or error}).",
            where=str(path),
            remedy="Check the free space and the permissions; the same command continues.",
        ) from error
    return sha256


def read_blob(folder: Path, sha256: str) -> bytes:
    """The content, verified to be what was stored.

    Raises:
        StoreError: missing, unreadable, or changed since it was written.
    """
    path = blob_path(folder, sha256)
    remedy = "`paretune run --retry` makes it again; or restore it from a copy of the store."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"a blob cannot be read ({error.strerror or error}).", where=str(path), remedy=remedy
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError("a blob is damaged: its content changed.", where=str(path), remedy=remedy)
    return content


def list_dropped_runs(db: sqlite3.Connection) -> set[str]:
    """Ids of the runs whose weights were dropped."""
    keys = (str(row["key"]) for row in db.execute("SELECT key FROM settings"))
    return {key.removeprefix(DROPPED_PREFIX) for key in keys if key.startswith(DROPPED_PREFIX)}


def remove_dropped_blobs(db: sqlite3.Connection, blobs: Path) -> None:
    """Remove the blobs of marked runs that no other run names; in a write transaction."""
    dropped = list_dropped_runs(db)
    removable: dict[str, bool] = {}
    for row in db.execute(
        f"SELECT run_id, {STORED_WEIGHTS} AS weights FROM runs WHERE state = 'done' "  # noqa: S608
        f"AND {STORED_WEIGHTS} IS NOT NULL"
    ):
        sha256 = row["weights"]
        removable[sha256] = removable.get(sha256, True) and row["run_id"] in dropped
    for sha256, is_removable in removable.items():
        if is_removable:
            blob_path(blobs, sha256).unlink(missing_ok=True)


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
            elif (
                table == "studies"
                and digest(json.loads(row["canonical"]))[:16] != row["study_hash"]
            ):
                problems.append(f"study {row['study_hash']}: its form does not give its hash")
    for row in db.execute(f"{RUN_ROWS_SQL} ORDER BY study_hash, position"):
        if damage := find_run_damage(row):
            problems.append(damage)
    blob_problems = find_blob_problems(db, blobs)
    return [*problems, *(f"run {run_id}: {what}" for run_id, what in blob_problems)]


def find_blob_problems(
    db: sqlite3.Connection, blobs: Path, study_hash: str | None = None
) -> Iterator[tuple[str, str]]:
    """The run id and a sentence for each blob that is missing or damaged, of a study or of all.

    Weights that were dropped are not missing.
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
