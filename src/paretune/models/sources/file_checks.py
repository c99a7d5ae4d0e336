"""Checks of a model folder's files before anything opens them: regular, bounded, complete.

A folder comes from anywhere. Reading a pipe or a device in it would never end, a git-lfs pointer is
no file of weights, and half a file of weights is best called that. Imports no torch.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from paretune.errors import ModelError

MAX_JSON_BYTES = 64 * 2**20
"""More than any index of weights has."""
MAX_CONFIG_BYTES = 8 * 2**20
"""More than any ``config.json`` has; a label for each of 20,000 classes takes a tenth."""
MAX_TENSORS = 100_000
"""More than any file of weights has."""
MAX_TOKENIZER_BYTES = 2**30
_MAX_HEADER_BYTES = 100_000_000  # of safetensors, by its own reader
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_FETCH_AGAIN = "Fetch the file again."


def require_regular_files(folder: Path) -> None:
    """Check that a folder holds nothing but files and folders, links to such, and broken links.

    Raises:
        ModelError: there is a pipe, a device or a socket, or a JSON file that is too large.
    """
    for path in sorted(folder.iterdir()):
        try:
            status = path.stat()
        except OSError:
            continue  # a broken link: whoever needs the file will report it as missing
        if path.suffix == ".json":
            _require_size(path, MAX_TOKENIZER_BYTES)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ModelError(
                "is a pipe, a device or a socket, not a regular file.",
                where=str(path),
                remedy="Replace it with the model's own file.",
            )


def require_no_lfs_pointer(path: Path) -> None:
    """Check that a file is not what git-lfs leaves in the place of a large one.

    Raises:
        ModelError: it is a git-lfs pointer, or cannot be read.
        FileNotFoundError: there is no such file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    if start == _LFS_POINTER:
        raise ModelError(
            "is a git-lfs pointer, not the file itself.",
            where=str(path),
            remedy="Fetch it: `git lfs install`, then `git lfs pull` in the folder.",
        )


def read_json_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file of ordinary size.

    Raises:
        ModelError: the file is missing, too large, no JSON, or no object.
    """
    try:
        _require_size(path, max_bytes)
        require_no_lfs_pointer(path)
        with path.open("rb") as file:
            value = json.loads(file.read(max_bytes + 1))
    except FileNotFoundError:
        raise ModelError(
            f"there is no {path.name}.",
            where=str(path.parent),
            remedy="A model folder holds config.json, weights and a tokenizer (save_pretrained).",
        ) from None
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    except RecursionError:
        raise ModelError("is nested without end.", where=str(path), remedy=_FETCH_AGAIN) from None
    except ValueError as error:
        reason = "a number of thousands of digits" if "int_max_str" in str(error) else str(error)
        raise ModelError(f"cannot be read as JSON ({reason}).", where=str(path)) from None
    if not isinstance(value, dict):
        raise ModelError("is not a JSON object.", where=str(path))
    return value


def read_tensor_dtypes(path: Path) -> set[str]:
    """The types in a safetensors file (``F32``, ``F16``, ``BF16`` ...), by its header.

    Raises:
        ModelError: the file is cut off, or is no safetensors file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(_MAX_HEADER_BYTES, size):
                raise ValueError
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        if len(header) > MAX_TENSORS:
            raise ModelError(f"holds {len(header):,} tensors, which no model has.", where=str(path))
        whole = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        types = {str(entry["dtype"]) for entry in header.values()}
        cut_off = size < whole
    except (ValueError, RecursionError, TypeError, AttributeError, LookupError):
        raise _damaged(path, "it does not begin as a safetensors file does") from None
    if cut_off:
        raise _damaged(path, f"{size:,} of {whole:,} bytes are there")
    return types


def _require_size(path: Path, most_bytes: int) -> None:
    if path.stat().st_size > most_bytes:
        raise ModelError(
            f"is larger than {most_bytes >> 20:,} MiB, which no such file is.",
            where=str(path),
            remedy=_FETCH_AGAIN,
        )


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"is truncated or damaged ({reason}).", where=str(path), remedy=_FETCH_AGAIN)
