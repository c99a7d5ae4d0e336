"""Files of activations: the hidden states below everything that is trained, for each text.

Where all that a run trains sits above layer k and no layer below has dropout, the input of layer k
is the same in every epoch, and for every seed, learning rate and method. It is computed once,
stored on disk, and given to the model instead of its embeddings and lower layers.

A file holds the rows of all texts of one part, one text after another, in the order of the part,
as a plain npy array (``allow_pickle`` is off) with a checksum behind it. Its name is a hash of what
it was computed from: weights, layer, precision and tokens, so it is never stale. One that is
damaged is computed again. The least recently used files make room for new ones.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretune.files import CHECKSUM_BYTES, has_valid_checksum, replace_file, write_checksum

WriteRows = Callable[[int, NDArray[Any]], None]
"""``(first_row, rows)``: writes some rows at their place."""
_INTEGERS = {torch.float32: np.uint32, torch.bfloat16: np.uint16, torch.float64: np.uint64}


@dataclass(frozen=True)
class CachedActivations:
    """The rows of a part, mapped from a file.

    Shapes: ``rows`` (all rows, width) as integers of the size of ``dtype``; ``starts``
    (texts + 1,).
    """

    rows: NDArray[Any]
    starts: list[int]
    dtype: torch.dtype

    def rows_of(self, texts: Iterable[int]) -> Tensor:
        """The rows of these texts, one text after another; (rows, 1, width)."""
        parts = [self.rows[self.starts[t] : self.starts[t + 1]] for t in texts]
        return torch.from_numpy(np.concatenate(parts)).view(self.dtype)[:, None]


def cache_key(*facts: Any, texts: Sequence[Sequence[int]]) -> str:
    """A name for the rows of texts: a hash of the texts and of the facts that decide the rows."""
    digest = hashlib.sha256(repr(facts).encode())
    for text in texts:
        digest.update(np.array([len(text), *text], dtype=np.int64).tobytes())
    return digest.hexdigest()[:40]


def load_or_compute(
    folder: Path,
    name: str,
    starts: list[int],
    width: int,
    dtype: torch.dtype,
    budget_bytes: int,
    compute: Callable[[WriteRows], None],
) -> CachedActivations | str:
    """The rows of that name, computed and written atomically if there is no whole file of them.

    Args:
        starts: first row of each text, and the number of rows.
        budget_bytes: that all files together may take; older ones are deleted for a new one.
        compute: given a function that writes (rows, width), integers of the size of ``dtype``.

    Returns:
        The rows; or why they are not cached, in words.
    """
    integers = _INTEGERS[dtype]
    size = starts[-1] * width * np.dtype(integers).itemsize
    if size > budget_bytes:
        return f"{size / 2**20:.0f} MiB are more than the budget of {budget_bytes / 2**20:.0f} MiB"
    path = folder / f"{name}.npy"
    if not _is_whole(path):
        try:
            with replace_file(path) as part:
                _make_room(folder, budget_bytes - size)
                _write_rows(part, np.dtype(integers), (starts[-1], width), compute)
        except OSError as error:  # the disk is full, or not ours: no cache is worth a run
            return f"{folder} cannot be written ({error})"
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # used now
    return CachedActivations(np.load(path, mmap_mode="r", allow_pickle=False), starts, dtype)


_checked: dict[Path, tuple[int, int, int]] = {}
"""Inode, size and time of change of the files that this process has read to their end."""


def _is_whole(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    identity = (status.st_ino, status.st_size, status.st_mtime_ns)
    if _checked.get(path) != identity:
        if not has_valid_checksum(path):
            return False
        _checked[path] = identity
    return True


def _write_rows(
    part: Path,
    integers: np.dtype[Any],
    shape: tuple[int, int],
    compute: Callable[[WriteRows], None],
) -> None:
    """Write an npy file and its checksum; not through memory maps: a full disk would be SIGBUS."""
    header = {"descr": integers.str, "fortran_order": False, "shape": shape}
    row_bytes = shape[1] * integers.itemsize
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()

        def write(first_row: int, rows: NDArray[Any]) -> None:
            file.seek(start + first_row * row_bytes)
            file.write(rows.tobytes())

        compute(write)
        file.seek(start + shape[0] * row_bytes)
        file.write(bytes(CHECKSUM_BYTES))
    write_checksum(part)


def _make_room(folder: Path, allowed_bytes: int) -> None:
    """Delete the least recently used files until the rest is small enough.

    What other processes are writing counts too.
    """
    files = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process deleted it
            status = path.stat()
            files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    used_bytes = sum(size for _, size, _ in files)
    for _, size, path in sorted(file for file in files if file[2].suffix == ".npy"):
        if used_bytes <= allowed_bytes:
            return
        with suppress(OSError):
            path.unlink()
        used_bytes -= size


def to_integers(hidden: Tensor) -> NDArray[Any]:
    """The bits of (rows, 1, width) as an array of (rows, width)."""
    flat = hidden[:, 0].cpu().contiguous()
    dtypes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return flat.view(dtypes[flat.element_size()]).numpy().view(_INTEGERS[flat.dtype])
