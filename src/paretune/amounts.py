"""Amounts as people write them: ``4GiB``, ``4,5 GB``, ``90 minutes``, ``1 h 30 min``, ``1pt``.

The one parser for options and settings. A decimal comma is as good as a point; a number without a
unit is refused, since nobody can tell seconds from minutes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from paretune.errors import StudyError

_PREFIXES = ("kilo", "mega", "giga", "tera")
_BINARY = ("kibi", "mebi", "gibi", "tebi")


def _name_units(names: str, factor: float) -> dict[str, float]:
    return dict.fromkeys(names.split(), factor)


BYTE_UNITS: Mapping[str, float] = {
    **_name_units("b byte bytes", 1.0),
    **{f"{prefix[0]}b": 1e3**n for n, prefix in enumerate(_PREFIXES, 1)},
    **{f"{prefix[0]}ib": 2.0 ** (10 * n) for n, prefix in enumerate(_BINARY, 1)},
    **{f"{p}byte{s}": 1e3**n for n, p in enumerate(_PREFIXES, 1) for s in ("", "s")},
    **{f"{p}byte{s}": 2.0 ** (10 * n) for n, p in enumerate(_BINARY, 1) for s in ("", "s")},
}
SECOND_UNITS: Mapping[str, float] = {
    **_name_units("s sec secs second seconds", 1.0),
    **_name_units("min mins minute minutes", 60.0),
    **_name_units("h hr hrs hour hours", 3600.0),
    **_name_units("d day days", 86400.0),
}
POINT_UNITS: Mapping[str, float] = _name_units("pt pts point points", 1.0)
"""Units by their names in lower case."""

_ONE = re.compile(r"\s*(\d+(?:[.,]\d*)?|[.,]\d+)\s*([A-Za-z]+)\s*")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(?!\d)")


def parse_size(given: str | float, option: str) -> float:
    """Bytes. A bare number in Python is bytes; on the command line a unit is asked for.

    Raises:
        StudyError: it is no size.
    """
    return _parse_amount(given, BYTE_UNITS, option, "size", "4GiB, 500MB or 1.5 TB")


def parse_duration(given: str | float, option: str) -> float:
    """Seconds; parts are added (``1 h 30 min``).

    Raises:
        StudyError: it is no time.
    """
    return _parse_amount(given, SECOND_UNITS, option, "time", "90s, 10min, 2h or 1 h 30 min")


def parse_points(given: str | float, option: str) -> float:
    """Percentage points of the primary metric; of BLEU and chrF points.

    Raises:
        StudyError: it is no number of points.
    """
    return _parse_amount(given, POINT_UNITS, option, "number of points", "1pt or 0.5pt")


def _parse_amount(
    given: str | float, units: Mapping[str, float], option: str, noun: str, examples: str
) -> float:
    if not isinstance(given, str):
        if math.isfinite(given) and given >= 0:
            return float(given)
    elif _THOUSANDS.match(given.strip()):
        raise StudyError(
            f'"{given}" may be a decimal comma or thousands.',
            where=option,
            remedy=f"Write it with a point or without a comma, as {examples}.",
        )
    else:
        parts = _ONE.findall(given) if re.fullmatch(f"(?:{_ONE.pattern})+", given) else []
        if parts and all(unit.lower() in units for _, unit in parts):
            return sum(float(n.replace(",", ".")) * units[unit.lower()] for n, unit in parts)
        if re.fullmatch(r"\s*[\d.,]+\s*", given):
            raise StudyError(
                f'"{given}" has no unit.', where=option, remedy=f"Write one, as {examples}."
            )
    raise StudyError(f'"{given}" is not a {noun}.', where=option, remedy=f"Write it as {examples}.")
