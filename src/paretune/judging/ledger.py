"""The ledger of a stream of candidates: who was looked at, how often, at which level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import special

from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.errors import DataError
from paretune.files import lock_folder
from paretune.reporting.document import write_file

LOOKS = 3
"""At a candidate, each after more of its runs."""
DECAY = 1.25
"""Exponent of the levels: about the one that leaves most for the fortieth candidate."""


class Look(BaseModel):
    """One test: the runs that were there, its p-value and the level that it had."""

    model_config = ConfigDict(extra="forbid")
    champion_runs: list[str]
    candidate_runs: list[str]
    p: float
    level: float


class Comparison(BaseModel):
    """A candidate against a champion, and the looks at it."""

    model_config = ConfigDict(extra="forbid")
    champion: str
    candidate: str
    looks: list[Look]


class Ledger(BaseModel):
    """Every comparison of a stream, in its order; ``spent`` is what all looks had of the 5 %."""

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    spent: float = 0.0
    comparisons: list[Comparison] = []


@dataclass
class Turn:
    """A candidate's place in a stream.

    Attributes:
        number: from 1; None of a candidate alone, whose looks nobody counts.
        looks: at it so far.
    """

    number: int | None = None
    looks: list[Look] = field(default_factory=list)

    @property
    def level(self) -> float:
        """Of one look, one-sided."""
        return level_of_candidate(self.number) / LOOKS

    def look(self, runs: Sequence[list[str]], p: float) -> int:
        """Count a look, unless it is the last one again; its number, or one more than there are.

        Args:
            runs: of the champion, of the candidate.
            p: of this look.

        Raises:
            DataError: runs of an earlier look are missing.
        """
        new = Look(champion_runs=runs[0], candidate_runs=runs[1], p=p, level=self.level)
        if self.looks and self.looks[-1] == new:
            return len(self.looks)
        for earlier in self.looks:
            if missing := sorted({*earlier.candidate_runs} - {*new.candidate_runs}):
                raise DataError(
                    f"a run of an earlier look is missing: seed {missing[0]}.",
                    remedy="Judge all runs of a candidate, or give another idea another name.",
                )
        if self.number is not None and len(self.looks) < LOOKS:
            self.looks.append(new)
            return len(self.looks)
        return 1 if self.number is None else LOOKS + 1


def level_of_candidate(number: int | None) -> float:
    """The level of the candidate of this number; all of 5 % of one alone."""
    if number is None:
        return ALPHA
    return ALPHA * float(number**-DECAY / special.zeta(DECAY))


@contextmanager
def open_turn(path: Path, champion: str, candidate: str) -> Iterator[Turn]:
    """A candidate's turn; what is looked at in the block is written at its end.

    Who judges at the same time waits.

    Raises:
        DataError: the file is no ledger.
        StoreError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_folder(path.parent):
        ledger = _read_ledger(path)
        names = [(entry.champion, entry.candidate) for entry in ledger.comparisons]
        if (champion, candidate) not in names:
            names.append((champion, candidate))
            entry = Comparison(champion=champion, candidate=candidate, looks=[])
            ledger.comparisons.append(entry)
        place = names.index((champion, candidate))
        looks = ledger.comparisons[place].looks
        before = len(looks)
        yield Turn(place + 1, looks)
        if len(looks) > before:
            entries = ledger.comparisons
            ledger.spent = sum(look.level for entry in entries for look in entry.looks)
            write_file(path, f"{ledger.model_dump_json(indent=1)}\n", "the ledger")


def _read_ledger(path: Path) -> Ledger:
    try:
        return Ledger.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValidationError) as error:
        raise DataError(
            "is no ledger of candidates.",
            where=str(path),
            remedy="Name another file; without the old one its stream begins anew.",
        ) from error
