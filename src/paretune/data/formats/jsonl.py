"""JSON Lines: one object a line, strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NoReturn

from paretune.errors import DataError


def parse_rows(text: str, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    r"""Yield line number and object; empty lines are passed over.

    Lines end at ``\n`` only: a text may hold U+2028, which ``splitlines`` would cut.

    Raises:
        DataError: not JSON, not an object, a key twice, NaN, or half a surrogate pair.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            value = json.loads(
                line, object_pairs_hook=_unique_keys, parse_constant=_reject_constant
            )
        except json.JSONDecodeError as error:
            raise DataError(
                f"is not JSON: {error.msg} (character {error.colno}).",
                where=where,
                remedy=_remedy(line),
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{error}.", where=where, remedy="Fix this line.") from None
        if not isinstance(value, dict):
            raise DataError(
                f"holds a {type(value).__name__}, not an object.",
                where=where,
                remedy=_remedy(line),
            )
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(
                "holds half a surrogate pair (\\ud800 to \\udfff), which is not a character.",
                where=where,
                remedy="Remove the broken escape.",
            ) from None
        yield number, value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        doubled = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'names the key "{doubled}" twice')
    return values


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which JSON does not know")


def _remedy(line: str) -> str:
    if line.lstrip().startswith("["):
        return "JSON Lines needs one object a line, not one array: jq -c '.[]' OLD > NEW.jsonl."
    return "Fix this line; each line is one JSON object."
