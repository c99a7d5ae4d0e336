"""Write the files of a report, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from paretune.errors import StoreError
from paretune.files import write_atomically


def write_file(path: Path, content: str | bytes, what: str) -> Path:
    """Write a file; its folder is created if it is missing.

    Args:
        content: text is written as UTF-8.
        what: what the file is, for the error: ``the page``.

    Raises:
        StoreError: it cannot be written there; an old file stays as it is.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise StoreError(
            f"{what} cannot be written ({error.strerror}).",
            where=str(path),
            remedy="Name another file or free some space.",
        ) from None
    return path
