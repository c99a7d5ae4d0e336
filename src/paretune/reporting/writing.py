"""Files of a report, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from paretune.errors import StoreError


def write_file(path: Path, content: str | bytes, what: str) -> Path:
    """Write a file beside its place and move it there; an old one stays until then.

    Args:
        path: of the file; its folder is made if it is missing.
        content: text becomes UTF-8.
        what: what it is, for the error: ``the page``.

    Raises:
        StoreError: it cannot be written there.
    """
    try:
        _write(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise StoreError(
            f"{what} cannot be written ({error.strerror}).",
            where=str(path),
            remedy="Name another file or free some space.",
        ) from None
    return path


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(beside).chmod(0o666 & ~umask)
        Path(beside).replace(path)
    except BaseException:  # whatever it is goes on up; no half file stays
        Path(beside).unlink(missing_ok=True)
        raise
