"""A folder that is there whole or not at all, and never over what was there before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paretune.errors import StudyError


def free(target: Path) -> None:
    """Check that nothing is there, or an empty folder.

    Raises:
        StudyError: something is.
    """
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise StudyError("is there already.", where=str(target), remedy="Name another --to.")


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its place at the end, unless there was an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield part
        if target.exists():
            target.rmdir()  # it is empty
        part.replace(target)
        target.chmod(0o755)
    finally:
        shutil.rmtree(part, ignore_errors=True)
