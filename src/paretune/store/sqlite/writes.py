"""What a study asks for, written. All functions run inside the caller's write transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from paretune.store.canonical_json import to_canonical_json
from paretune.store.identity import known_as
from paretune.store.sqlite.checksums import write_checksums
from paretune.store.sqlite.queries import load_checked_rows
from paretune.study import Run, Study

_RUN = "study_hash = ? AND run_id = ?"


def put_study(
    db: sqlite3.Connection, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
) -> None:
    """Keep a study file, in the place of its earlier text where it is there."""
    db.execute(
        "INSERT INTO studies (study_hash, name, text, canonical, created) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (study_hash) DO UPDATE SET name = excluded.name, text = excluded.text, "
        "canonical = excluded.canonical",
        (study_hash, name, text, to_canonical_json(dict(canonical), "study"), time.time()),
    )
    write_checksums(db, "studies", "study_hash = ?", (study_hash,))


def adopt(db: sqlite3.Connection, study: Study, where: str) -> None:
    """Give the study the runs that it has here under an older hash; those stay there too.

    Raises:
        StoreError: some of them are damaged.
    """
    old, new = known_as(db, study), study.study_hash
    if old == new:
        return
    load_checked_rows(db, old, where)
    db.execute(
        "INSERT INTO studies (study_hash, name, text, canonical, created) "
        "SELECT ?, name, text, ?, created FROM studies WHERE study_hash = ?",
        (new, to_canonical_json(study.canonical_form(), "study"), old),
    )
    db.execute(
        "INSERT INTO study_runs (study_hash, run_id, position, left_out, run) "
        "SELECT ?, run_id, position, left_out, run FROM study_runs WHERE study_hash = ?",
        (new, old),
    )
    for table in ("studies", "study_runs"):
        write_checksums(db, table, "study_hash = ?", (new,))


def put_runs(db: sqlite3.Connection, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
    """Add runs behind those that the study has; those that it has get their paths of now."""
    new = 0
    position = db.execute(
        "SELECT coalesce(max(position) + 1, 0) FROM study_runs WHERE study_hash = ?", (study_hash,)
    ).fetchone()[0]
    known = dict(
        db.execute(
            "SELECT run_id, run FROM study_runs WHERE study_hash = ?", (study_hash,)
        ).fetchall()
    )
    for run_id, run in runs:
        text = to_canonical_json(run.model_dump(), "run")
        if known.get(run_id) == text:
            continue
        if run_id in known:
            db.execute(f"UPDATE study_runs SET run = ? WHERE {_RUN}", (text, study_hash, run_id))  # noqa: S608
        else:
            db.execute(
                "INSERT OR IGNORE INTO runs (run_id, stage, created) VALUES (?, ?, ?)",
                (run_id, run.stage, time.time()),
            )
            db.execute(
                "INSERT INTO study_runs (study_hash, run_id, position, run) VALUES (?, ?, ?, ?)",
                (study_hash, run_id, position + new, text),
            )
            new += 1
        known[run_id] = text
        write_checksums(db, "study_runs", _RUN, (study_hash, run_id))
    return new


def leave_out(db: sqlite3.Connection, study_hash: str, askable: Collection[str]) -> int:
    """Mark the runs of a study that are not askable, and no others; how many are marked."""
    rows = db.execute(
        "SELECT run_id, left_out FROM study_runs WHERE study_hash = ?", (study_hash,)
    ).fetchall()
    for row in rows:
        out = int(row["run_id"] not in askable)
        if row["left_out"] != out:
            key = (study_hash, row["run_id"])
            db.execute(f"UPDATE study_runs SET left_out = ? WHERE {_RUN}", (out, *key))  # noqa: S608
            write_checksums(db, "study_runs", _RUN, key)
    return sum(row["run_id"] not in askable for row in rows)


def put_setting(db: sqlite3.Connection, key: str, value: str, *, once: bool = False) -> None:
    """Keep a value; with ``once`` only where there is none yet."""
    kept = "NOTHING" if once else "UPDATE SET value = excluded.value"
    changed = db.execute(
        f"INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO {kept}",  # noqa: S608
        (key, value),
    ).rowcount
    if changed:
        write_checksums(db, "settings", "key = ?", (key,))
