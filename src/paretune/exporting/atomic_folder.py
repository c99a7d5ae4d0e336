"""A folder that is there whole or not at all, and never over what was there before."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paretune.errors import ParetuneError, StoreError, StudyError

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


def make_safe_name(*parts: str) -> str:
    """One name of a folder made of several: no path, no hidden one, none of a drive.

    >>> safe_name("topics", "tiny", "../lora")
    'topics-tiny-lora'
    """
    names = (_NOT_IN_NAMES.sub("-", part).strip("-.") for part in parts)
    return "-".join(name for name in names if name) or "export"


def check_target(target: Path) -> None:
    """Check that nothing is there, or an empty folder, and that a folder can be made there.

    Raises:
        StudyError: something is.
        StoreError: nothing can be written there.
    """
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise StudyError("is there already.", where=str(target), remedy="Name another --to.")
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise _write_error(target, f"{above} is not a folder that can be written to")


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its place at the end, unless there was an error.

    Raises:
        StoreError: it cannot be written, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise _write_error(target, str(error.strerror)) from None
    try:
        yield part
        if target.exists():
            target.rmdir()  # it is empty
        part.replace(target)
        target.chmod(0o755)
    except ParetuneError:
        raise
    except Exception as error:
        reason = _disk_reason(error)
        if reason is None:
            raise
        raise _write_error(target, reason) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _disk_reason(error: Exception) -> str | None:
    """What the system said of a file; libraries in Rust (safetensors, tokenizers) write it so."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror
    told = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(told[1])) if told else None


def _write_error(target: Path, reason: str) -> StoreError:
    return StoreError(
        f"cannot be written ({reason}); nothing is left of it.",
        where=str(target),
        remedy="Free some space, or name another --to.",
    )
