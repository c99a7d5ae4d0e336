"""Plain values as canonical JSON: the one way in which values enter the store.

What comes out equals what went in: floats keep every bit (Python writes the shortest text that
reads back as the same number), and what JSON cannot hold is refused, never converted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any


def to_canonical_json(value: Any, name: str) -> str:
    """Canonical JSON (sorted keys, no spaces) of plain values.

    Args:
        value: dicts with text keys, lists, tuples (they come back as lists), text, numbers, None.
        name: what the value is called in errors.

    Raises:
        ValueError: a NaN or an infinity, a key that is no text, or an object that is not plain;
            the error names its place.
    """
    _check_plain(value, name)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def check_result(
    result: Mapping[str, Any], measured: Mapping[str, Any], blobs: Collection[str]
) -> None:
    """Check that what a run leaves can be kept, before anything of it is written.

    Raises:
        ValueError: a value that is not plain, or a name that result and blobs both have.
    """
    if shared := sorted(set(result) & set(blobs)):
        raise ValueError(f"result and blobs both name {', '.join(shared)}")
    to_canonical_json(dict(result), "result")
    to_canonical_json(dict(measured), "measured")


def _check_plain(value: Any, place: str) -> None:
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"{place} holds half of a surrogate pair, which is no text")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}: a number that is unknown is stored as None")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place} has the key {key!r}, which is no text")
            _check_plain(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{place}[{index}]")
    else:
        raise ValueError(f"{place} is a {type(value).__name__}, which is no plain value")
