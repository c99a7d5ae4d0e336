"""Changes to a store as another program would make them."""

from __future__ import annotations

import sqlite3
from pathlib import Path


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
