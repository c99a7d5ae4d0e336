"""The folder of an export: written whole or not at all, never over existing files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paretune.atomic_write import create_folder, describe_os_error
from paretune.errors import ParetuneError, StoreError, StudyError


def check_target(target: Path) -> None:
    """Check that ``target`` is absent or an empty folder, and can be made.

    Raises:
        StudyError: it exists.
        StoreError: nothing can be written there.
    """
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise StudyError(
            "already exists.", where=str(target), remedy="Choose another folder with --output."
        )
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise _write_error(target, f"{parent} is not a folder that can be written to")


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its place at the end, unless there is an error.

    Raises:
        StoreError: it cannot be written, or the disk is full.
    """
    try:
        with create_folder(target) as folder:
            yield folder
    except ParetuneError:
        raise
    except Exception as error:
        reason = describe_os_error(error)
        if reason is None:
            raise
        raise _write_error(target, reason) from None


def _write_error(target: Path, reason: str) -> StoreError:
    return StoreError(
        f"cannot be written ({reason}); nothing is left of it.",
        where=str(target),
        remedy="Free some space, or name another --to.",
    )
