"""Changes to a store as another program would make them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from paretune.store import tables


def tamper(folder: Path, statement: str, *values: object) -> None:
    """Change rows as another program would: past the triggers that guard what is done."""
    db = sqlite3.connect(folder / "study.db", isolation_level=None)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA ignore_check_constraints = ON")
    for name in tables.TRIGGERS:
        db.execute(f"DROP TRIGGER {name}")
    assert db.execute(statement, values).rowcount > 0
    for statement in tables.TRIGGERS.values():
        db.execute(statement)
    db.close()
