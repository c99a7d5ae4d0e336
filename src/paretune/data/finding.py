"""What is wrong or noteworthy in data: always with file, line and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.errors import DataError

Severity = Literal["error", "warning", "note"]

SHOWN = 20
"""How many findings of one kind are spelled out; the rest is counted."""


@dataclass(frozen=True)
class Finding:
    """One thing found in the data.

    ``code`` names the kind (``unknown-label``, ``leak`` ...), ``where`` the file and line,
    ``what`` is a sentence, ``remedy`` says what the user can do.
    """

    severity: Severity
    code: str
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.remedy}".rstrip()


def refuse(faults: Sequence[Finding]) -> None:
    """Stop if anything prevents building the examples, naming all of it at once.

    Raises:
        DataError: with up to :data:`SHOWN` faults, one a line, and their total.
    """
    if not faults:
        return
    if len(faults) == 1:
        only = faults[0]
        raise DataError(only.what, where=only.where, remedy=only.remedy)
    lines = [f"  {fault}" for fault in faults[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"  ... and {len(faults) - SHOWN} more")
    raise DataError(f"{len(faults)} faults in the data:\n" + "\n".join(lines))


def capped(findings: Sequence[Finding], most: int = SHOWN) -> list[Finding]:
    """The first ``most`` findings of one kind, then one that counts the rest."""
    if len(findings) <= most:
        return list(findings)
    first = findings[most]
    rest = len(findings) - most
    said = Finding(
        first.severity,
        first.code,
        first.where,
        f"{rest} more findings like those above begin here.",
        "Mend those shown first; checking again shows the others.",
    )
    return [*findings[:most], said]
