"""Amounts as a user writes them: ``4GiB``, ``20MB``, ``10min``, ``1pt``."""

from __future__ import annotations

import math
import re

from paretune.errors import StudyError

BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
POINTS = {"pt": 1.0}

_FORM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*")


def size(given: str | float, option: str) -> float:
    """Bytes. A bare number in Python is bytes; on the command line a unit is asked for.

    Raises:
        StudyError: it is no amount of these units.
    """
    return _amount(given, BYTES, option, "4GiB or 500MB")


def duration(given: str | float, option: str) -> float:
    """Seconds.

    Raises:
        StudyError: it is no amount of these units.
    """
    return _amount(given, SECONDS, option, "90s, 10min or 2h")


def points(given: str | float, option: str) -> float:
    """Percentage points of the primary metric; of BLEU and chrF points.

    Raises:
        StudyError: it is no amount of this unit.
    """
    return _amount(given, POINTS, option, "1pt or 0.5pt")


def _amount(given: str | float, units: dict[str, float], option: str, example: str) -> float:
    if not isinstance(given, str):
        value, factor = float(given), 1.0
        if math.isfinite(value) and value >= 0:
            return value
    elif found := _FORM.fullmatch(given):
        # Units are read as they are written, then without regard to case where that is one only.
        unit = found[2]
        alike = [factor for name, factor in units.items() if name.lower() == unit.lower()]
        factor = units.get(unit, alike[0] if len(alike) == 1 else 0.0)
        if factor:
            return float(found[1]) * factor
    raise StudyError(
        f'"{given}" is no amount.',
        where=option,
        remedy=f"Write a number with one of the units {', '.join(units)}, as {example}.",
    )
