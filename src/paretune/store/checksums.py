"""A checksum for each column of what results rest on, written in the transaction of the row.

Whatever is read is first compared with what was written: a digit that changed on the disk or by
another program's hand is told by run and column, and is never shown as a result.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from paretune.errors import StoreError
from paretune.study import Run

KEYS: Mapping[str, tuple[str, ...]] = {
    "studies": ("study_hash",),
    "runs": ("run_id",),
    "study_runs": ("study_hash", "run_id"),
    "settings": ("key",),
}
_ENDED = ("attempt", "fail_kind", "message", "result", "measured", "created", "started", "ended")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "studies": ("name", "text", "canonical", "created"),
    "runs": ("stage", "state", *_ENDED),
    "study_runs": ("position", "left_out", "run"),
    "settings": ("value",),
}
"""What is protected. A run that has not ended has no checksum yet: nothing of it is a result."""
_ROW = ""
SET_ASIDE = (
    "Restore study.db from a copy; without one, `paretune verify STUDY --set-aside` puts away what "
    "is damaged, and `paretune run` makes it again."
)


def seal(db: sqlite3.Connection, table: str, where: str, values: Sequence[Any] = ()) -> None:
    """Write the checksums of the rows of a table, as they now are in this transaction."""
    columns = ", ".join((*KEYS[table], *COLUMNS[table]))
    db.execute(
        f"UPDATE {table} SET checksum = row_checksum('{table}', {columns}) WHERE {where}",  # noqa: S608 (constants)
        values,
    )


def teach(connection: sqlite3.Connection) -> None:
    """Make ``row_checksum`` known to the connection; bytes that are no text are read as damage."""
    connection.text_factory = lambda content: content.decode("utf-8", "replace")
    connection.create_function("row_checksum", -1, _checksum, deterministic=True)


def changed(table: str, row: sqlite3.Row, checksum: str | None) -> list[str]:
    """The columns of a row that are not as they were written."""
    if checksum is None:
        return ["checksum"]
    try:
        written = dict(json.loads(checksum))
    except (ValueError, TypeError):
        return ["checksum"]
    key = [row[name] for name in KEYS[table]]
    # All at once is enough where nothing changed; column by column says what did.
    if written.get(_ROW) == _digits(table, key, _ROW, [row[name] for name in COLUMNS[table]]):
        return []
    return [
        column
        for column in COLUMNS[table]
        if written.get(column) != _digits(table, key, column, row[column])
    ]


def damage_of_run(row: sqlite3.Row) -> list[str]:
    """What changed in a run of a study: a row of ``runs`` with ``run`` of ``study_runs``.

    ``row`` has all columns of both, and their checksums as ``checksum`` and ``asked_checksum``;
    those of ``runs`` are null where it is not found there.
    """
    if row["state"] is None:
        return ["record"]
    found = changed("study_runs", row, row["asked_checksum"])
    if row["checksum"] is not None or row["state"] in ("done", "failed"):
        found += changed("runs", row, row["checksum"])
    return found


def run_named(text: str) -> str:
    """Which run it is: ``cb-sl x tiny x lora, final, seed 3``; empty where it cannot be read."""
    try:
        run = Run.model_validate_json(text)
    except ValidationError:
        return ""
    return f"{' x '.join(run.cell)}, {run.stage}, seed {run.seed}"


def said_of_run(row: sqlite3.Row, columns: Sequence[str]) -> str:
    """``run ID (which it is): its result changed after it was written``."""
    which = run_named(row["run"])
    name = row["run_id"] or row["asked_id"]
    return f"run {name}{f' ({which})' if which else ''}: its {_listed(columns)}"


def said_of(table: str, row: sqlite3.Row, columns: Sequence[str]) -> str:
    """The same of a row that is no run."""
    what = {"studies": "study", "settings": "setting"}[table]
    return f"{what} {row[KEYS[table][0]]}: its {_listed(columns)}"


def refuse_damaged(found: Sequence[str], where: str) -> None:
    """Raise where something was found.

    Raises:
        StoreError: it names up to three of them, and says how many there are.
    """
    if not found:
        return
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    raise StoreError(f"{'; '.join(found[:3])}{more}.", where=where, remedy=SET_ASIDE)


def _listed(columns: Sequence[str]) -> str:
    was = "it was" if len(columns) == 1 else "they were"
    return f"{', '.join(columns)} changed after {was} written"


def _checksum(table: str, *values: Any) -> str:
    keys, columns = len(KEYS[table]), COLUMNS[table]
    key, rest = list(values[:keys]), values[keys:]
    digits = {c: _digits(table, key, c, v) for c, v in zip(columns, rest, strict=True)}
    digits[_ROW] = _digits(table, key, _ROW, list(rest))
    return json.dumps(digits, separators=(",", ":"), sort_keys=True)


def _digits(table: str, key: list[Any], column: str, value: Any) -> str:
    text = json.dumps([table, *key, column, value], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
