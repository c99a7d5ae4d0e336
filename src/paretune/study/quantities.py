"""Quantities as people write them: ``4GiB``, ``4,5 GB``, ``90 minutes``, ``1 h 30 min``, ``1pt``.

Options and settings have this one parser. A decimal comma is as good as a point. A number without a
unit is refused, since it could be seconds or minutes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator

from paretune.errors import StudyError

_TERM = re.compile(r"\s*(\d+(?:[.,]\d*)?|[.,]\d+)\s*([A-Za-z]+)\s*")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(?!\d)")


@dataclass(frozen=True)
class Quantity:
    """A kind of quantity and its units.

    Attributes:
        units: value of each unit, by its names in lower case.
        examples: quantities that error messages show.
    """

    name: str
    units: Mapping[str, float]
    examples: str

    def parse(self, value: str | float, option: str) -> float:
        """Return the sum of the terms; a bare number from Python is in the smallest unit.

        Raises:
            StudyError: the value is not such a quantity, has no unit, or is ambiguous.
        """
        invalid = StudyError(
            f'invalid {self.name} "{value}": expected e.g. {self.examples}.', where=option
        )
        if not isinstance(value, str):
            if math.isfinite(value) and value >= 0:
                return float(value)
            raise invalid
        if _THOUSANDS.match(value.strip()):
            raise StudyError(
                f'ambiguous {self.name} "{value}": decimal comma or thousands?',
                where=option,
                remedy=f"Write it with a point or without a comma, e.g. {self.examples}.",
            )
        if re.fullmatch(r"\s*[\d.,]+\s*", value):
            raise StudyError(f'"{value}" has no unit: expected e.g. {self.examples}.', where=option)
        terms = _TERM.findall(value) if re.fullmatch(f"(?:{_TERM.pattern})+", value) else []
        if not terms or any(unit.lower() not in self.units for _, unit in terms):
            raise invalid
        return sum(float(n.replace(",", ".")) * self.units[unit.lower()] for n, unit in terms)

    def to_setting(self, *, rounds: bool = True) -> BeforeValidator:
        """Return a validator for a setting of a study file; a bare number has the smallest unit."""

        def read(value: Any) -> float | None:
            if value is None:
                return None
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            try:
                amount = self.parse(value if is_number else str(value), "")
            except StudyError as error:
                raise ValueError(f"{error.what} {error.remedy}".strip()) from None
            return round(amount) if rounds else amount

        return BeforeValidator(read)


SIZE = Quantity(
    "size",
    dict.fromkeys(("b", "byte", "bytes"), 1.0)
    | {f"{prefix}b": 1e3**n for n, prefix in enumerate("kmgt", 1)}
    | {f"{prefix}ib": 2.0 ** (10 * n) for n, prefix in enumerate("kmgt", 1)},
    "4GiB, 500MB or 1.5 TB",
)
"""A number of bytes."""
DURATION = Quantity(
    "time",
    {"ms": 1e-3}
    | dict.fromkeys(("s", "sec", "second", "seconds"), 1.0)
    | dict.fromkeys(("min", "minute", "minutes"), 60.0)
    | dict.fromkeys(("h", "hour", "hours"), 3600.0)
    | dict.fromkeys(("d", "day", "days"), 86400.0),
    "90s, 10min, 2h or 1 h 30 min",
)
"""A number of seconds."""
POINTS = Quantity(
    "number of points", dict.fromkeys(("pt", "pts", "point", "points"), 1.0), "1pt or 0.5pt"
)
"""Percentage points of the primary metric; for BLEU and chrF their points."""
