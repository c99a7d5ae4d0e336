"""Blobs by content: ``blobs/ab/<sha256>``. A blob is whole under its name, or not there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from paretune.atomic_write import part_path, replace_file, sync_folder
from paretune.errors import StoreError

_HASH = re.compile(r"[0-9a-f]{64}")


def blob_path(folder: Path, sha256: object) -> Path:
    """Path of a blob, whether or not it exists.

    Raises:
        StoreError: that is no name of a blob.
    """
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise StoreError(
            f"names a blob {sha256!r}, which is no sha256 in hexadecimal digits.",
            where=str(folder.parent / "study.db"),
            remedy="Restore study.db from a copy.",
        )
    return folder / sha256[:2] / sha256


def write_blob(folder: Path, content: bytes) -> str:
    """Store the content and return its sha256; on disk, names included, when this returns.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    path = blob_path(folder, sha256)
    try:
        if path.exists() and _hash_file(path) == sha256:
            return sha256
        parts = folder / "part"
        parts.mkdir(parents=True, exist_ok=True)
        with replace_file(path, part=part_path(parts / "blob")) as part:
            part.write_bytes(content)
        sync_folder(folder)
    except OSError as error:
        raise _write_error(path, error) from error
    return sha256


def read_blob(folder: Path, sha256: str) -> bytes:
    """The content, verified to be what was stored.

    Raises:
        StoreError: missing, unreadable, or changed since it was written.
    """
    path = blob_path(folder, sha256)
    remedy = "`paretune run --retry` makes it again; or restore it from a copy of the store."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"a blob cannot be read ({error.strerror or error}).", where=str(path), remedy=remedy
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError("a blob is damaged: its content changed.", where=str(path), remedy=remedy)
    return content


def _write_error(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"a blob cannot be written ({error.strerror or error}).",
        where=str(path),
        remedy="Check the free space and the permissions; the same command continues.",
    )


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
