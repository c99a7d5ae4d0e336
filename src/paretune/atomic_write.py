"""Atomic writes: a file or folder appears whole under its name, or not at all.

The one place in the package that writes a temporary file, syncs and renames it. After a crash or a
power cut a
reader sees the old content or the new, never half of one. Errors are plain :class:`OSError`: the
caller knows what the file is and says so.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file, in place of what is there; text as UTF-8. Its folder is made if missing.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    with replace_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replace_file(path: Path, *, part: Path | None = None) -> Iterator[Path]:
    """A temporary path to write to, which becomes ``path`` at the end of the block.

    Args:
        path: of the file; its folder is made if missing.
        part: the temporary path, on the same file system; a hidden one beside ``path`` by default.
            It is removed where the block raises.

    Raises:
        OSError: the file cannot be written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part or _part_of(path)
    try:
        yield part
        _sync(part)
        part.replace(path)
    except BaseException:  # Ctrl-C too: no temporary file stays; raised again
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def create_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, which takes its place at the end.

    ``path`` is absent or an empty folder. Nothing is left where the block raises.

    Raises:
        OSError: it cannot be written, or ``path`` holds something by then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(path)
    part.mkdir()
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            path.rmdir()  # raises where it is not empty
        part.rename(path)
    except BaseException:  # Ctrl-C too: no temporary file stays; raised again
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
