"""Stores as older versions left them."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def as_version_1(folder: Path) -> None:
    """Take away from a store what version 2 brought: checksums, left-out runs, ``done.jsonl``."""
    (folder / "done.jsonl").unlink(missing_ok=True)
    db = sqlite3.connect(folder / "study.db", isolation_level=None)
    (trigger,) = db.execute(
        "SELECT sql FROM sqlite_schema WHERE name = 'done_runs_never_change'"
    ).fetchone()
    db.execute("DROP TRIGGER done_runs_never_change")
    for table in ("studies", "runs", "study_runs", "settings"):
        db.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
    db.execute("ALTER TABLE study_runs DROP COLUMN left_out")
    db.execute("DROP TABLE set_aside")
    db.execute(trigger.replace(" AND OLD.checksum IS NOT NULL", ""))
    db.execute("PRAGMA user_version = 1")
    db.close()


def tamper(folder: Path, statement: str, *values: object) -> None:
    """Change rows as another program would: past the triggers that guard what is done."""
    db = sqlite3.connect(folder / "study.db", isolation_level=None)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA ignore_check_constraints = ON")
    triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {name}")
    assert db.execute(statement, values).rowcount > 0
    for _, sql in triggers:
        db.execute(sql)
    db.close()
