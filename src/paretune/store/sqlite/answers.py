"""Answers to requests from elsewhere, kept in the transaction of what they did.

A network may lose an answer, and a server may be killed between its commit and its answer. Who
asked does not know whether it was done, and asks again under the same key: it is done once, and
answered twice. The table is there in stores that were served; others do without.
"""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

KEPT_SECONDS = 24 * 3600.0
"""How long an answer is kept: far longer than anybody asks again."""
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, answer TEXT NOT NULL, at REAL NOT NULL
) STRICT, WITHOUT ROWID"""


def create_answers(db: sqlite3.Connection) -> None:
    """Make the table where it is missing, and forget old answers."""
    db.execute(_TABLE)
    db.execute("DELETE FROM answers WHERE at < ?", (time.time() - KEPT_SECONDS,))


def load_answer(db: sqlite3.Connection, key: str) -> list[Any]:
    """A list of the answer that was given under the key; empty where none was."""
    rows = db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchall()
    return [json.loads(row["answer"]) for row in rows]


def put_answer(db: sqlite3.Connection, key: str, answer: Any) -> None:
    """Keep the answer under a key that has none."""
    db.execute(
        "INSERT INTO answers (key, answer, at) VALUES (?, ?, ?)",
        (key, json.dumps(answer), time.time()),
    )
