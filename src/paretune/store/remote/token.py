"""The token of a server, in a file of its user alone; and the lock of the one server of a store."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paretune.errors import StoreError, StudyError

TOKEN_FILE = "server-token"  # noqa: S105 (a file's name)
_LOCK_FILE = "server.lock"


def create_token(file: Path) -> str:
    """The token in a file, which is made, for its owner alone, where it is missing.

    Raises:
        StudyError: it cannot be read or written, or others may read it.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_token(file)
    except OSError as error:
        raise StudyError(
            f"the token cannot be written ({error.strerror or error}).",
            where=str(file),
            remedy="Name another place by --token-file.",
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(f"{secrets.token_urlsafe(32)}\n")
    return read_token(file)


def read_token(file: Path) -> str:
    """The token in a file that nobody but its owner may read.

    Raises:
        StudyError: it is missing or empty, or others may read it.
    """
    try:
        mode, token = file.stat().st_mode, file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise StudyError(
            f"the token cannot be read ({reason}).",
            where=str(file),
            remedy="Copy the file that `paretune serve` names, and give it by --token-file.",
        ) from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise StudyError("others may read this token.", where=str(file), remedy=f"chmod 600 {file}")
    if not token or not token.isprintable():
        raise StudyError(
            "holds no token.", where=str(file), remedy="Copy the file that `paretune serve` names."
        )
    return token


@contextmanager
def hold_server_lock(folder: Path) -> Iterator[None]:
    """Be the one server of a store while the context is open.

    Raises:
        StoreError: another one is, or the file system cannot lock.
    """
    if sys.platform == "win32":  # where the port alone keeps a second one away
        yield
        return
    import fcntl

    with (folder / _LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                "another process serves this store.",
                where=str(folder),
                remedy="Its workers go on with that one; stop it first to serve from here.",
            ) from None
        except OSError as error:
            raise StoreError(
                f"the file system cannot lock ({error.strerror or error}).",
                where=str(folder),
                remedy="Move the store to a local disk.",
            ) from error
        yield
