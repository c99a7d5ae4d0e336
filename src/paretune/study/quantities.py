"""Quantities as people write them: ``4GiB``, ``4,5 GB``, ``90 minutes``, ``1 h 30 min``, ``1pt``.

The one parser for options and settings. A decimal comma is as good as a point; a number without a
unit is refused, since nobody can tell seconds from minutes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator

from paretune.errors import StudyError

_PREFIXES = ("kilo", "mega", "giga", "tera")
_BINARY_PREFIXES = ("kibi", "mebi", "gibi", "tebi")


def _name_units(names: str, factor: float) -> dict[str, float]:
    return dict.fromkeys(names.split(), factor)


BYTE_UNITS: Mapping[str, float] = {
    **_name_units("b byte bytes", 1.0),
    **{f"{prefix[0]}b": 1e3**n for n, prefix in enumerate(_PREFIXES, 1)},
    **{f"{prefix[0]}ib": 2.0 ** (10 * n) for n, prefix in enumerate(_BINARY_PREFIXES, 1)},
    **{f"{p}byte{s}": 1e3**n for n, p in enumerate(_PREFIXES, 1) for s in ("", "s")},
    **{
        f"{p}byte{s}": 2.0 ** (10 * n) for n, p in enumerate(_BINARY_PREFIXES, 1) for s in ("", "s")
    },
}
SECOND_UNITS: Mapping[str, float] = {
    **_name_units("ms millisecond milliseconds", 1e-3),
    **_name_units("s sec secs second seconds", 1.0),
    **_name_units("min mins minute minutes", 60.0),
    **_name_units("h hr hrs hour hours", 3600.0),
    **_name_units("d day days", 86400.0),
}
POINT_UNITS: Mapping[str, float] = _name_units("pt pts point points", 1.0)
"""Units by their names in lower case."""


@dataclass(frozen=True)
class _Quantity:
    """What is parsed: its name, its units, and examples for errors."""

    name: str
    units: Mapping[str, float]
    examples: str


_SIZE = _Quantity("size", BYTE_UNITS, "4GiB, 500MB or 1.5 TB")
_DURATION = _Quantity("time", SECOND_UNITS, "90s, 10min, 2h or 1 h 30 min")
_POINTS = _Quantity("number of points", POINT_UNITS, "1pt or 0.5pt")

_TERM = re.compile(r"\s*(\d+(?:[.,]\d*)?|[.,]\d+)\s*([A-Za-z]+)\s*")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(?!\d)")


def parse_size(value: str | float, option: str) -> float:
    """Bytes. A bare number in Python is bytes; on the command line a unit is required.

    Raises:
        StudyError: it is no size.
    """
    return _parse(value, _SIZE, option)


def parse_duration(value: str | float, option: str) -> float:
    """Seconds; terms are added (``1 h 30 min``).

    Raises:
        StudyError: it is no time.
    """
    return _parse(value, _DURATION, option)


def parse_points(value: str | float, option: str) -> float:
    """Percentage points of the primary metric; of BLEU and chrF points.

    Raises:
        StudyError: it is no number of points.
    """
    return _parse(value, _POINTS, option)


def _parse(value: str | float, quantity: _Quantity, option: str) -> float:
    invalid = StudyError(
        f'invalid {quantity.name} "{value}": expected e.g. {quantity.examples}.', where=option
    )
    if not isinstance(value, str):
        if math.isfinite(value) and value >= 0:
            return float(value)
        raise invalid
    if _THOUSANDS.match(value.strip()):
        raise StudyError(
            f'ambiguous {quantity.name} "{value}": decimal comma or thousands?',
            where=option,
            remedy=f"Write it with a point or without a comma, e.g. {quantity.examples}.",
        )
    if re.fullmatch(r"\s*[\d.,]+\s*", value):
        raise StudyError(f'"{value}" has no unit: expected e.g. {quantity.examples}.', where=option)
    terms = _TERM.findall(value) if re.fullmatch(f"(?:{_TERM.pattern})+", value) else []
    if not terms or any(unit.lower() not in quantity.units for _, unit in terms):
        raise invalid
    return sum(float(n.replace(",", ".")) * quantity.units[unit.lower()] for n, unit in terms)


def _as_setting(parse: Callable[[str | float, str], float], *, rounds: bool) -> BeforeValidator:
    def read(value: Any) -> float | None:
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        try:
            amount = parse(value if is_number else str(value), "")
        except StudyError as error:
            raise ValueError(f"{error.what} {error.remedy}".strip()) from None
        return round(amount) if rounds else amount

    return BeforeValidator(read)


SIZE = _as_setting(parse_size, rounds=True)
DURATION = _as_setting(parse_duration, rounds=True)
LATENCY = _as_setting(parse_duration, rounds=False)
"""Quantities of a study file; a bare number is bytes or seconds."""
