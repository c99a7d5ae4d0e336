"""SQLite connections, also to a file that may only be read, transactions, and errors."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from paretune.errors import StoreError
from paretune.store.tables import check_database, create_tables, register_checksum_function

BUSY_TIMEOUT_SECONDS = 30.0
"""One process waits so long for another's write; a write takes milliseconds."""


def open_database(folder: Path, *, create: bool) -> sqlite3.Connection:
    """The database of a folder; read-only where it cannot be written.

    Raises:
        StoreError: there is none, it is damaged, busy, another program's, or of another format.
    """
    path = folder / "study.db"
    try:
        if create:
            for part in (folder, folder / "blobs", folder / "checkpoints"):
                part.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise StoreError(
                "no store of studies is here.",
                where=str(folder),
                remedy="paretune run STUDY.yaml creates one.",
            )
    except OSError as error:
        raise StoreError(
            f"the folder cannot be used ({error.strerror or error}).",
            where=str(folder),
            remedy="Choose another folder, or check its permissions.",
        ) from error
    try:
        return _check_current(connect(path), path, create=create)
    except StoreError as error:
        # SQLite may not write where it must to open the file in the usual way.
        name = error_name(error.__cause__)
        if create or not name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise
    # Where nobody has it open for writing, nothing but the file itself is needed.
    log = path.with_name(f"{path.name}-wal")
    is_written = log.exists() and log.stat().st_size
    mode = "mode=ro" if is_written else "mode=ro&immutable=1"
    with translate_errors(path):
        uri = f"{path.absolute().as_uri()}?{mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        register_checksum_function(connection)
    return _check_current(connection, path, create=False)


def _check_current(
    connection: sqlite3.Connection, path: Path, *, create: bool
) -> sqlite3.Connection:
    """The connection, its tables created where there are none and ``create`` says so."""
    try:
        with translate_errors(path):
            is_new = create and not connection.execute("PRAGMA user_version").fetchone()[0]
        if is_new:
            with transaction(connection, path, "IMMEDIATE"):
                create_tables(connection)
        with translate_errors(path):
            check_database(connection, str(path))
    except BaseException:  # nothing stays open
        connection.close()
        raise
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode that survives a power cut (``synchronous=FULL``).

    Transactions are explicit (:func:`transaction`); a connection belongs to one thread.

    Raises:
        StoreError: the file cannot be opened, is damaged, or lies where WAL cannot work.
    """
    with translate_errors(path):
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
        try:
            # The change to WAL does not honour the busy timeout; two processes may create at once.
            deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
            while True:
                try:
                    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                    break
                except sqlite3.OperationalError as error:
                    locked = error_name(error).startswith("SQLITE_BUSY")
                    if not locked or time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            if mode != "wal":
                raise StoreError(
                    f"the file system cannot hold a store (journal mode stayed {mode}).",
                    where=str(path),
                    remedy="Move the store to a local disk.",
                )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            register_checksum_function(connection)
        except BaseException:  # Ctrl-C too: nothing stays open; raised again
            connection.close()
            raise
    return connection


@contextmanager
def transaction(
    connection: sqlite3.Connection, path: Path, mode: Literal["IMMEDIATE", "DEFERRED"]
) -> Iterator[sqlite3.Connection]:
    """All or nothing: commits at the end, rolls back on any exception.

    ``IMMEDIATE`` takes the write lock at once, so that what is read inside stays true until the
    commit; ``DEFERRED`` reads one consistent state.
    """
    with translate_errors(path):
        connection.execute(f"BEGIN {mode}")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:  # Ctrl-C too: all of it or nothing; raised again
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def without_sync(connection: sqlite3.Connection) -> Iterator[None]:
    """Let commits survive the process, but a power cut only once a later commit does."""
    if connection.in_transaction:  # of which it is a part
        yield
        return
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL")


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file into a StoreError with a remedy.

    Errors of our own statements (constraints, syntax) pass through: they are defects.
    """
    try:
        yield
    except UnicodeDecodeError as error:  # of SQLite's own message, which quotes the damaged text
        what, remedy = _DAMAGED
        raise StoreError(f"{what}.", where=str(path), remedy=remedy) from error
    except sqlite3.DatabaseError as error:
        name = error_name(error)
        for prefix, (what, remedy) in _ERROR_MESSAGES.items():
            if name.startswith(prefix):
                raise StoreError(f"{what} ({error}).", where=str(path), remedy=remedy) from error
        raise


def error_name(error: BaseException | None) -> str:
    """SQLite's name of an error (``SQLITE_BUSY``); "" of any other."""
    return str(getattr(error, "sqlite_errorname", ""))  # not there of errors of the module itself


_DAMAGED = (
    "the database file is damaged",
    "Restore study.db from a copy, or rescue what can be read with `sqlite3 study.db .recover`; "
    "to start anew, move the folder away and run the same command.",
)
_ERROR_MESSAGES = {
    "SQLITE_NOTADB": _DAMAGED,
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_BUSY": (
        f"another process kept the store locked for {BUSY_TIMEOUT_SECONDS:.0f} seconds",
        "If no other paretune runs, the file system may not lock files properly "
        "(network folders): move the store to a local disk.",
    ),
    "SQLITE_FULL": ("the disk is full", "Free some space; the same command continues."),
    "SQLITE_READONLY": ("the store cannot be written", "Check the folder's permissions."),
    "SQLITE_CANTOPEN": ("the store cannot be opened", "Check the folder and its permissions."),
    "SQLITE_PERM": ("the store cannot be opened", "Check the folder's permissions."),
    "SQLITE_IOERR": (
        "the disk reported an error while reading or writing the store",
        "Check the disk and its free space; on a network folder, move the store to a local disk.",
    ),
}
