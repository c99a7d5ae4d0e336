"""Per-example predictions as one blob of canonical JSON: encoded and decoded here, nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping

from paretune.errors import StoreError
from paretune.store.canonical_json import to_canonical_json
from paretune.store.record import Predictions
from paretune.study import Answer

GROUPING_COLUMNS = ("cluster", "question")
"""Columns that are stored only where examples belong together."""


def encode_predictions(parts: Mapping[str, Predictions]) -> bytes:
    """``{"selection": {"uid", "label", "prediction", "scores"}, "test": ...}`` in UTF-8.

    With ``cluster`` and ``question`` where examples belong together, and ``segment`` where
    something was scored by segment.

    Raises:
        ValueError: a score is NaN or infinite (a diverged run has no predictions), or the
            fields of a part have different lengths.
    """
    form = {}
    for name, part in parts.items():
        _check_lengths(name, part)
        form[name] = {
            "uid": part.uid,
            "label": part.label,
            "prediction": part.prediction,
            "scores": part.scores,
            **_grouping(part),
            **({"segment": dict(part.segment)} if part.segment else {}),
        }
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
                **{k: tuple(int(n) for n in part[k]) for k in GROUPING_COLUMNS if k in part},
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


def _grouping(part: Predictions) -> dict[str, tuple[int, ...]]:
    columns = {"cluster": part.cluster, "question": part.question}
    return {name: numbers for name, numbers in columns.items() if numbers}


def _check_lengths(name: str, part: Predictions) -> None:
    lengths = {len(part.uid), len(part.label), len(part.prediction), len(part.scores)}
    lengths |= {len(numbers) for numbers in _grouping(part).values()}
    lengths |= {len(values) for values in part.segment.values()}
    if len(lengths) > 1:
        raise ValueError(f"predictions.{name}: fields of different lengths {sorted(lengths)}")
