"""Opening a store's database, also one that may only be read."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from paretune.errors import StoreError
from paretune.store.sqlite.database import (
    connect,
    connect_immutable,
    error_name,
    transaction,
    translate_errors,
)
from paretune.store.sqlite.schema import (
    check_format,
    check_tables,
    create_tables,
)


@dataclass
class OpenDatabase:
    """A connection; ``copy`` holds a copy of the database where only a copy could be opened."""

    connection: sqlite3.Connection
    copy: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Close the connection, and remove the copy."""
        self.connection.close()
        if self.copy is not None:
            self.copy.cleanup()


def open_database(folder: Path, *, create: bool) -> OpenDatabase:
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
        return OpenDatabase(_check_current(connect(path), path, create=create))
    except StoreError as error:
        if create or not _is_read_only_error(error):
            raise
    return _open_read_only(path)


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
            check_format(connection, str(path))
            check_tables(connection, str(path))
    except BaseException:  # nothing stays open
        connection.close()
        raise
    return connection


def _is_read_only_error(error: StoreError) -> bool:
    """Whether SQLite may not write where it must to open the file in the usual way."""
    name = error_name(error.__cause__)
    return name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"))


def _open_read_only(path: Path) -> OpenDatabase:
    """The file itself; a copy where it has a write-ahead log beside it."""
    log = path.with_name(f"{path.name}-wal")
    if not (log.exists() and log.stat().st_size):
        return OpenDatabase(_check_current(connect_immutable(path), path, create=False))
    try:
        copy = tempfile.TemporaryDirectory(prefix="paretune-")
    except OSError as error:
        raise _copy_error(path, error) from error
    try:
        for file in (path, log):
            if file.exists():
                shutil.copyfile(file, Path(copy.name) / file.name)
        copied = Path(copy.name) / path.name
        connection = _check_current(connect(copied), copied, create=False)
        connection.execute("PRAGMA query_only = ON")
    except OSError as error:
        copy.cleanup()
        raise _copy_error(path, error) from error
    except BaseException:  # nothing stays open
        copy.cleanup()
        raise
    return OpenDatabase(connection, copy)


def _copy_error(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"is read-only, and cannot be copied to be read ({error.strerror or error}).",
        where=str(path),
        remedy=f"Free space in {tempfile.gettempdir()}, or name another folder by TMPDIR.",
    )
