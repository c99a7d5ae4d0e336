"""Files that a verb writes where the user named them, or where they are by default."""

from __future__ import annotations

from pathlib import Path

from paretune.errors import StudyError
from paretune.files import write_atomically


def write_output(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file, whole or not at all.

    Raises:
        StudyError: it exists and must not be overwritten, or cannot be written.
    """
    remedy = "Name another file with --output."
    try:
        if overwrite:
            write_atomically(path, text)
            return
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise StudyError(
            "exists already and is not overwritten.", where=str(path), remedy=remedy
        ) from None
    except OSError as error:
        raise StudyError(
            f"cannot be written ({error.strerror}).", where=str(path), remedy=remedy
        ) from None
