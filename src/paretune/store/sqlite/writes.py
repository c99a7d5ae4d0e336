"""Statements that write studies, runs and settings; inside the caller's write transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from paretune.errors import StaleClaimError
from paretune.store.canonical_json import to_canonical_json
from paretune.store.sqlite.checksums import has_changed, write_checksums
from paretune.store.sqlite.queries import RUN_ROWS_SQL
from paretune.store.sqlite.schema import TRIGGERS
from paretune.store.status import Claim
from paretune.study import Run

_STUDY_RUN = "study_hash = ? AND run_id = ?"


def put_study(
    db: sqlite3.Connection, study_hash: str, name: str, text: str, canonical: Mapping[str, Any]
) -> None:
    """Keep a study file, in place of its earlier text where there is one."""
    db.execute(
        "INSERT INTO studies (study_hash, name, text, canonical, created) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (study_hash) DO UPDATE SET name = excluded.name, text = excluded.text, "
        "canonical = excluded.canonical",
        (study_hash, name, text, to_canonical_json(dict(canonical), "study"), time.time()),
    )
    write_checksums(db, "studies", "study_hash = ?", (study_hash,))


def put_runs(db: sqlite3.Connection, study_hash: str, runs: Iterable[tuple[str, Run]]) -> int:
    """Add runs behind those that the study has; return how many are new.

    Runs that it has already get their current paths.
    """
    added = 0
    position = db.execute(
        "SELECT coalesce(max(position) + 1, 0) FROM study_runs WHERE study_hash = ?", (study_hash,)
    ).fetchone()[0]
    stored = dict(
        db.execute(
            "SELECT run_id, run FROM study_runs WHERE study_hash = ?", (study_hash,)
        ).fetchall()
    )
    for run_id, run in runs:
        text = to_canonical_json(run.model_dump(), "run")
        if stored.get(run_id) == text:
            continue
        key = (study_hash, run_id)
        if run_id in stored:
            db.execute(f"UPDATE study_runs SET run = ? WHERE {_STUDY_RUN}", (text, *key))  # noqa: S608
        else:
            db.execute(
                "INSERT OR IGNORE INTO runs (run_id, stage, created) VALUES (?, ?, ?)",
                (run_id, run.stage, time.time()),
            )
            db.execute(
                "INSERT INTO study_runs (study_hash, run_id, position, run) VALUES (?, ?, ?, ?)",
                (*key, position + added, text),
            )
            added += 1
        stored[run_id] = text
        write_checksums(db, "study_runs", _STUDY_RUN, key)
    return added


def leave_out(db: sqlite3.Connection, study_hash: str, possible_run_ids: Collection[str]) -> int:
    """Mark exactly the runs of a study that are not possible any more; return their number."""
    rows = db.execute(
        "SELECT run_id, left_out FROM study_runs WHERE study_hash = ?", (study_hash,)
    ).fetchall()
    for row in rows:
        left_out = int(row["run_id"] not in possible_run_ids)
        if row["left_out"] != left_out:
            key = (study_hash, row["run_id"])
            db.execute(
                f"UPDATE study_runs SET left_out = ? WHERE {_STUDY_RUN}",  # noqa: S608
                (left_out, *key),
            )
            write_checksums(db, "study_runs", _STUDY_RUN, key)
    return sum(row["run_id"] not in possible_run_ids for row in rows)


def change_claimed_run(
    db: sqlite3.Connection, claim: Claim, assignments: str, values: tuple[Any, ...]
) -> None:
    """Change the row of a run, on the condition that the claim still holds.

    Raises:
        StaleClaimError: it does not; nothing was changed.
    """
    changed = db.execute(
        f"UPDATE runs SET {assignments} "  # noqa: S608 (constants of the store)
        "WHERE run_id = ? AND state = 'running' AND owner = ? AND attempt = ?",
        (*values, claim.run_id, claim.owner, claim.attempt),
    ).rowcount
    if not changed:
        raise StaleClaimError(
            "the run passed to another worker; this worker's result is not written.",
            where=f"run {claim.run_id}, attempt {claim.attempt}",
        )
    write_checksums(db, "runs", "run_id = ? AND ended IS NOT NULL", (claim.run_id,))


def reset_unusable_runs(db: sqlite3.Connection, study_hash: str, unusable: Collection[str]) -> int:
    """Make todo again, from the beginning, what did not come to a result; return how many.

    That is what failed, did not fit in memory or is damaged, and the runs that are named. Damaged
    settings and requests are deleted, and the damaged text of the study is emptied: ``run`` writes
    them again.
    """
    again: set[str] = set()
    for row in db.execute(f"{RUN_ROWS_SQL} WHERE study_hash = ?", (study_hash,)).fetchall():
        run_id, key = row["asked_id"], (study_hash, row["asked_id"])
        ended = row["checksum"] is not None or row["ended"] is not None
        if row["state"] is None or has_changed("study_runs", row, row["asked_checksum"]):
            again.add(run_id)
            db.execute(f"DELETE FROM study_runs WHERE {_STUDY_RUN}", key)  # noqa: S608
        if row["state"] is not None and (
            run_id in unusable
            or row["state"] == "failed"
            or (ended and has_changed("runs", row, row["checksum"]))
            or _is_out_of_memory(row)
        ):
            again.add(run_id)
            reset_run(db, run_id)
    for row in db.execute("SELECT * FROM settings").fetchall():
        if has_changed("settings", row, row["checksum"]):
            db.execute("DELETE FROM settings WHERE key = ?", (row["key"],))
    for row in db.execute("SELECT * FROM studies WHERE study_hash = ?", (study_hash,)).fetchall():
        if has_changed("studies", row, row["checksum"]):
            put_study(db, study_hash, str(row["name"]), "", {})
    return len(again)


def _is_out_of_memory(row: sqlite3.Row) -> bool:
    return row["state"] == "done" and '"outcome":"out_of_memory"' in row["result"]


def reset_run(db: sqlite3.Connection, run_id: str) -> None:
    """Make a run todo, from its beginning and without the settings that are kept of it.

    Also one that is done, which no other statement may change.
    """
    trigger = "done_runs_never_change"
    db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    db.execute(
        "UPDATE runs SET state = 'todo', checksum = NULL, owner = NULL, lease_until = NULL, "
        "progress = NULL, fail_kind = NULL, message = NULL, result = NULL, measured = NULL, "
        "ended = NULL WHERE run_id = ?",
        (run_id,),
    )
    db.execute(TRIGGERS[trigger])
    db.execute("DELETE FROM settings WHERE substr(key, instr(key, '/') + 1) = ?", (run_id,))


def put_setting(db: sqlite3.Connection, key: str, value: str, *, if_absent: bool = False) -> None:
    """Keep a value; with ``if_absent`` only where there is none yet."""
    on_conflict = "NOTHING" if if_absent else "UPDATE SET value = excluded.value"
    changed = db.execute(
        f"INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO {on_conflict}",  # noqa: S608
        (key, value),
    ).rowcount
    if changed:
        write_checksums(db, "settings", "key = ?", (key,))
