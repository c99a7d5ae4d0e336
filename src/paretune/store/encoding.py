"""Encodes plain values, and predictions, as canonical JSON: values enter the store in no other way.

Decoding gives equal values: floats keep every bit (Python writes the shortest text that reads back
as the same number), and values that JSON cannot hold are refused, never converted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from paretune.answers import Answer
from paretune.errors import StoreError
from paretune.store.record import Predictions

_COLUMNS = ("uid", "label", "prediction", "scores")
_GROUPS = ("cluster", "question")
"""Columns that are stored only where examples belong together."""


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


def encode_predictions(parts: Mapping[str, Predictions]) -> bytes:
    """``{"selection": {"uid", "label", "prediction", "scores"}, "test": ...}`` in UTF-8.

    There are ``cluster`` and ``question`` where examples belong together, and ``segment`` where
    something was scored by segment. Scores are rounded to 8 digits, as many as fp32 has.

    Raises:
        ValueError: a score is NaN or infinite (a diverged run has no predictions), or the
            fields of a part have different lengths.
    """
    form = {}
    for name, part in parts.items():
        _check_lengths(name, part)
        form[name] = {column: getattr(part, column) for column in _COLUMNS}
        form[name]["scores"] = [[float(f"{s:.8g}") for s in row] for row in part.scores]
        form[name] |= {column: numbers for column in _GROUPS if (numbers := getattr(part, column))}
        if part.segment:
            form[name]["segment"] = dict(part.segment)
    return to_canonical_json(form, "predictions").encode()


def decode_predictions(content: bytes, where: str) -> dict[str, Predictions]:
    """The inverse of :func:`encode_predictions`; ``where`` names the run in errors.

    Raises:
        StoreError: the content is not of that form.
    """
    try:
        parts = {
            str(name): Predictions(
                uid=tuple(str(uid) for uid in part["uid"]),
                label=tuple(_parse_answer(label) for label in part["label"]),
                prediction=tuple(_parse_answer(answer) for answer in part["prediction"]),
                scores=tuple(tuple(float(s) for s in row) for row in part["scores"]),
                **{k: tuple(int(n) for n in part[k]) for k in _GROUPS if k in part},
                segment={
                    str(key): tuple(float(v) for v in values)
                    for key, values in part.get("segment", {}).items()
                },
            )
            for name, part in json.loads(content).items()
        }
        for name, part in parts.items():
            _check_lengths(name, part)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"the stored predictions cannot be read ({error!r}).", where=where
        ) from error
    return parts


def _parse_answer(value: Answer) -> Answer:
    """An index as an int, a number as a float, a translation as a text."""
    return value if isinstance(value, float | str) else int(value)


def _check_lengths(name: str, part: Predictions) -> None:
    lengths = {len(getattr(part, column)) for column in _COLUMNS}
    lengths |= {len(getattr(part, column)) for column in _GROUPS if getattr(part, column)}
    lengths |= {len(values) for values in part.segment.values()}
    if len(lengths) > 1:
        raise ValueError(f"predictions.{name}: fields of different lengths {sorted(lengths)}")
