"""Which rows changed since a revision: triggers number every change of a run and of the settings.

The number never goes back, whichever process or version of paretune writes, so that who looks again
reads only what is new to it. Nothing rests on this table: it is made where a store is opened for
writing, and a store without it is read as a whole at every look.
"""

from __future__ import annotations

import sqlite3

_TABLE = """CREATE TABLE IF NOT EXISTS changes (
    revision INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL,
    UNIQUE (kind, name)
) STRICT"""
_EVENTS = {
    "runs": ("run", "{row}.run_id"),
    "study_runs": ("run", "{row}.run_id"),
    "settings": ("settings", "substr({row}.key, 1, instr({row}.key, '/'))"),
}
"""By table: what a change of its row is filed under; settings by their prefix, as ``memory/``."""


_TRIGGER = """CREATE TRIGGER {trigger} AFTER {event} ON {table} BEGIN
    DELETE FROM changes WHERE kind = '{kind}' AND name = {name};
    INSERT INTO changes (kind, name) VALUES ('{kind}', {name}); END"""
"""No upsert: inside a trigger the conflict rule of the statement that fires it would hold."""


def has_changes(db: sqlite3.Connection) -> bool:
    """Whether all changes are numbered."""
    rows = db.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'trigger')")
    return {"changes", *_list_triggers()} <= {row[0] for row in rows}


def create_changes(db: sqlite3.Connection) -> None:
    """Number changes from now on; whatever is there counts as changed. In a write transaction."""
    db.execute(_TABLE)
    for name, statement in _list_triggers().items():
        db.execute(f"DROP TRIGGER IF EXISTS {name}")
        db.execute(statement)
    db.execute("DELETE FROM changes")
    db.execute("INSERT INTO changes (kind, name) SELECT 'run', run_id FROM runs")
    kind, name = _EVENTS["settings"]
    prefix = name.format(row="settings")
    db.execute(f"INSERT INTO changes (kind, name) SELECT DISTINCT '{kind}', {prefix} FROM settings")  # noqa: S608 (constants)


def load_revision(db: sqlite3.Connection) -> int:
    """The number of the last change."""
    return int(db.execute("SELECT coalesce(max(revision), 0) FROM changes").fetchone()[0])


def load_settings_revision(db: sqlite3.Connection, prefix: str) -> int:
    """The number of the last change of a setting whose key begins so; 0 where there was none."""
    row = db.execute(
        "SELECT revision FROM changes WHERE kind = 'settings' AND name = ?", (prefix,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _list_triggers() -> dict[str, str]:
    """Statements by the name of the trigger."""
    triggers = {}
    for table, (kind, name) in _EVENTS.items():
        for event, row in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
            trigger = f"{table}_{event}_is_numbered"
            values = {"kind": kind, "name": name.format(row=row)}
            triggers[trigger] = _TRIGGER.format(
                trigger=trigger, event=event.upper(), table=table, **values
            )
    return triggers
