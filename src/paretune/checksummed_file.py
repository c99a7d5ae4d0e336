"""Files that end with the SHA-256 of all before it, so that damage is noticed when they are read.

For derived files that are written once and replaced whole: checkpoints, cached activations. The
format in front (safetensors, npy) leaves :data:`CHECKSUM_BYTES` bytes free at its end.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKSUM_BYTES = 32
_BLOCK_BYTES = 1 << 20


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
