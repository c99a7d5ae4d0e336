"""Files that appear whole or not at all, that show damage, and whose names are safe.

Writing: the one place in the package that writes a temporary file, syncs and renames it. After a
crash or a power cut a reader sees the old content or the new, never half of one. What a killed
process left half written is removed by the next one that writes into that folder. Errors are plain
:class:`OSError`: the caller knows what the file is and says so.

Checksums: derived files that are written once and replaced whole (checkpoints, cached activations)
end with the SHA-256 of all before it. Their format (safetensors, npy) leaves
:data:`CHECKSUM_BYTES` bytes free at its end.

Names: made of names that somebody else chose, or typed by a user. Places: where fetched data lies.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from paretune.owner import is_tag_of_dead_owner, owner_tag

STALE_SECONDS = 24 * 3600.0
"""A temporary file that nobody has written to for so long is left over, whosever it was."""
_PART_NAME = re.compile(r"\..*\.([0-9a-f]{8}-\d+-[\w.]+)-[0-9a-f]{8}\.part", re.DOTALL)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE)
CHECKSUM_BYTES = 32
_BLOCK_BYTES = 1 << 20
MAX_NAME_BYTES = 200
"""File systems take 255; suffixes, and the marks of temporary files, are added to a name."""
_UNSAFE = re.compile(r"[^\w.:-]+|(?<!\w):|:(?!\w)")
"""A colon within a name, as in ``peft:vera``, has a character of its own that is safe."""
_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10)),
}


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
    part = part or part_path(path)
    remove_stale_parts(part.parent)
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
    remove_stale_parts(path.parent)
    part = part_path(path)
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


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Wait for others that lock the folder, and hold the lock; on Windows there is none.

    Raises:
        OSError: there is no such folder, or its file system has no locks.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def part_path(path: Path) -> Path:
    """A temporary path beside ``path``, whose name says which process writes it."""
    return path.with_name(f".{path.name[:150]}.{owner_tag()}-{uuid.uuid4().hex[:8]}.part")


def remove_stale_parts(folder: Path) -> None:
    """Remove temporary files and folders of processes that are gone."""
    for part in folder.glob(".*.part"):
        name = _PART_NAME.fullmatch(part.name)
        try:
            age_seconds = time.time() - part.stat().st_mtime
        except OSError:  # it is gone by now
            continue
        if name is None or not (is_tag_of_dead_owner(name[1]) or age_seconds > STALE_SECONDS):
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)  # another process may be removing it
        else:
            with suppress(OSError):
                part.unlink()


def describe_os_error(error: BaseException) -> str | None:
    """The system's message about a file; None where the error is of another kind.

    Libraries in Rust (safetensors, tokenizers) quote it in errors of their own.
    """
    code = _os_error_code(error)
    return None if code is None else os.strerror(code)


def is_disk_error(error: BaseException) -> bool:
    """Whether the disk is full or fails, whatever was to be read or written there."""
    return _os_error_code(error) in _DISK_ERRORS


def _os_error_code(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    quoted = re.search(r"\(os error (\d+)\)", str(error))
    return int(quoted[1]) if quoted else None


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def write_checksum(path: Path) -> None:
    """Write the checksum of a whole file over its last bytes, which must be zero.

    Raises:
        ValueError: they hold something else.
        OSError: the file cannot be read or written.
    """
    digest, last = _hash_file(path)
    if last != bytes(CHECKSUM_BYTES):
        raise ValueError(f"{path} does not end with room for a checksum")
    with path.open("r+b") as file:
        file.seek(-CHECKSUM_BYTES, 2)
        file.write(digest)


def has_valid_checksum(path: Path) -> bool:
    """Whether a file is there and as it was written."""
    try:
        digest, last = _hash_file(path)
    except OSError:
        return False
    return digest == last


def _hash_file(path: Path) -> tuple[bytes, bytes]:
    """The SHA-256 of all but the last bytes, and those."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = max(0, file.seek(0, 2) - CHECKSUM_BYTES)
        file.seek(0)
        while left and (block := file.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
        return digest.digest(), file.read()


def make_file_name(*parts: str) -> str:
    """One name of a file or folder: no path, not hidden, no option, no device, not too long.

    A name that had to be changed ends in a hash, so that two names never become one file.

    >>> make_file_name("topics", "tiny", "lora")
    'topics-tiny-lora'
    >>> make_file_name("topics", "../lora")
    'topics-lora-48cbbd38'
    >>> make_file_name("topics", "peft:vera")
    'topics-peft+vera'
    """
    safe = (_UNSAFE.sub("-", part).strip("-.").replace(":", "+") for part in parts)
    name = "-".join(part for part in safe if part)
    if name.partition(".")[0].upper() in _DEVICES:
        name = f"_{name}"
    if name == "-".join(parts).replace(":", "+") and name and len(name.encode()) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:8]
    short = name.encode()[: MAX_NAME_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{short}-{digest}" if short else digest


def expand_home(path: Path | str) -> Path:
    """The path with the home folder for ``~``; ``~nobody`` stays as it is, and is nowhere."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def data_home() -> Path:
    """The folder of fetched data; it need not exist yet.

    ``$PARETUNE_HOME`` itself where that is set, otherwise ``paretune/data`` in the platform's
    folder for caches (``~/.cache`` or ``$XDG_CACHE_HOME`` on Linux).
    """
    if home := os.environ.get("PARETUNE_HOME"):
        return expand_home(home)
    return platformdirs.user_cache_path("paretune", appauthor=False) / "data"


def converted_models_home() -> Path:
    """The folder of models that were converted (:mod:`paretune.models.sources.convert`)."""
    return data_home() / "models"
