"""Faults and noteworthy facts in data, always with file, line and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from paretune.errors import DataError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

MAX_SHOWN = 20
"""How many findings of one kind are spelled out; the rest is counted."""
MAX_EXAMPLES = 3
"""Rows that a finding about many rows names; so many findings of one kind stand alone."""


@dataclass(frozen=True)
class Finding:
    """One thing found in the data.

    Attributes:
        severity: error, warning or note.
        code: its kind: ``unknown-label``, ``leak`` ...
        where: file and line.
        what: what was found, as a sentence.
        remedy: what the user can do.
        places: all rows of a finding about several, the first of which is ``where``.
    """

    severity: Severity
    code: str
    where: str
    what: str
    remedy: str
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.remedy}".rstrip()


class InvalidValueError(ValueError):
    """A fault of a row, and its remedy; it becomes a :class:`Finding` with its place."""

    def __init__(self, code: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.code, self.what, self.remedy = code, what, remedy


class InvalidRowsError(DataError):
    """Rows of which no examples can be made; ``findings`` has every one of them."""

    def __init__(self, what: str, faults: Sequence[Finding], where: str = "", remedy: str = ""):
        super().__init__(what, where=where, remedy=remedy)
        self.findings = tuple(faults)


def raise_for_findings(findings: Sequence[Finding]) -> None:
    """Stop if anything prevents building the examples, naming all of it at once.

    Raises:
        InvalidRowsError: with up to :data:`MAX_SHOWN` faults, one a line, and their total.
    """
    if not findings:
        return
    if len(findings) == 1:
        only = findings[0]
        raise InvalidRowsError(only.what, findings, only.where, only.remedy)
    lines = [f"  {fault}" for fault in findings[:MAX_SHOWN]]
    if len(findings) > MAX_SHOWN:
        lines.append(f"  ... and {len(findings) - MAX_SHOWN} more")
    raise InvalidRowsError(f"{len(findings)} faults in the data:\n" + "\n".join(lines), findings)


def summarise(findings: Sequence[Finding], population: str = "rows") -> list[Finding]:
    """Findings of one kind: each alone where they are few, one with examples for many."""
    if len(findings) <= MAX_EXAMPLES:
        return list(findings)
    first = findings[0]
    rest = [f"{fault.where}: {fault.what.rstrip('.')}" for fault in findings[1:MAX_EXAMPLES]]
    what = f"{first.what} {len(findings)} {population} are like this one: {'; '.join(rest)}; ..."
    places = tuple(fault.where for fault in findings)
    return [Finding(first.severity, first.code, first.where, what, first.remedy, places)]


def summarise_by_code(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of several kinds, those of rows gathered by kind, in the order of their first."""
    kinds: dict[str, list[Finding]] = {}
    for fault in findings:
        kinds.setdefault(fault.code, []).append(fault)
    return tuple(
        finding
        for code, same in kinds.items()
        for finding in (same if code == "no-column" else summarise(same))
    )
