"""What is wrong or noteworthy in data: always with file, line and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretune.errors import DataError

Severity = Literal["error", "warning", "note"]

SHOWN = 20
"""How many findings of one kind are spelled out; the rest is counted."""
EXAMPLES = 3
"""Rows that a finding about many rows names; so many findings of one kind stand alone."""


@dataclass(frozen=True)
class Finding:
    """One thing found in the data.

    ``code`` names the kind (``unknown-label``, ``leak`` ...), ``where`` the file and line,
    ``what`` is a sentence, ``remedy`` says what the user can do. ``places`` are all rows of a
    finding about several, the first of which is ``where``.
    """

    severity: Severity
    code: str
    where: str
    what: str
    remedy: str
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.remedy}".rstrip()


class FaultsError(DataError):
    """Rows of which no examples can be made; ``faults`` has every one of them."""

    def __init__(self, what: str, faults: Sequence[Finding], where: str = "", remedy: str = ""):
        super().__init__(what, where=where, remedy=remedy)
        self.faults = tuple(faults)


def refuse(faults: Sequence[Finding]) -> None:
    """Stop if anything prevents building the examples, naming all of it at once.

    Raises:
        FaultsError: with up to :data:`SHOWN` faults, one a line, and their total.
    """
    if not faults:
        return
    if len(faults) == 1:
        only = faults[0]
        raise FaultsError(only.what, faults, only.where, only.remedy)
    lines = [f"  {fault}" for fault in faults[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"  ... and {len(faults) - SHOWN} more")
    raise FaultsError(f"{len(faults)} faults in the data:\n" + "\n".join(lines), faults)


def gathered(findings: Sequence[Finding], of: str = "rows") -> list[Finding]:
    """Findings of one kind: each alone where they are few, one with examples where they are many.

    Args:
        findings: of one kind.
        of: what they were looked for in, as ``of 60 test rows``.
    """
    if len(findings) <= EXAMPLES:
        return list(findings)
    first = findings[0]
    others = [f"{one.where}: {one.what.rstrip('.')}" for one in findings[1:EXAMPLES]]
    what = f"{first.what} {len(findings)} {of} are like this one: {'; '.join(others)}; ..."
    places = tuple(one.where for one in findings)
    return [Finding(first.severity, first.code, first.where, what, first.remedy, places)]


def of_each_kind(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of several kinds, those of rows gathered by kind, in the order of their first."""
    kinds: dict[str, list[Finding]] = {}
    for one in findings:
        kinds.setdefault(one.code, []).append(one)
    return tuple(
        found
        for code, same in kinds.items()
        for found in (same if code == "no-column" else gathered(same))
    )


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
