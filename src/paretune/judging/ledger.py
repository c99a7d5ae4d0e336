"""The ledger of a stream of candidates: every look at one, with the level that it had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import special

from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.errors import DataError, StoreError
from paretune.files import lock_folder
from paretune.reporting.document import write_file

LOOKS = 3
"""Most looks at a candidate, each with more of its runs."""
DECAY = 1.25
"""Exponent of the levels: about the one that leaves most for the fortieth candidate."""


class Look(BaseModel):
    """One test of a candidate: the runs that were there, its p-value and its level."""

    model_config = ConfigDict(extra="forbid")
    champion: str
    candidate: str
    champion_runs: list[str]
    candidate_runs: list[str]
    p: float
    level: float


class Ledger(BaseModel):
    """All looks of a stream in their order; ``spent`` is the sum of their levels."""

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    spent: float = 0.0
    looks: list[Look] = []

    def number(self, champion: str, candidate: str) -> int:
        """The place of a candidate among those that were looked at, from 1; a new one is last."""
        pairs = dict.fromkeys((look.champion, look.candidate) for look in self.looks)
        return [*pairs | {(champion, candidate): None}].index((champion, candidate)) + 1

    def enter(self, look: Look) -> int:
        """Count a look unless it is the last one again: its place, over LOOKS if none was left.

        Raises:
            DataError: runs of an earlier look are missing.
        """
        pair = look.champion, look.candidate
        earlier = [entry for entry in self.looks if (entry.champion, entry.candidate) == pair]
        if earlier and earlier[-1] == look:
            return len(earlier)
        for entry in earlier:
            if missing := sorted({*entry.candidate_runs} - {*look.candidate_runs}):
                raise DataError(
                    f"{look.candidate} lacks a run of an earlier look, seed {missing[0]}.",
                    remedy="Judge all runs of a candidate, or give another idea another name.",
                )
        if len(earlier) < LOOKS:
            self.looks.append(look)
            self.spent += look.level
        return len(earlier) + 1


def level_of_look(number: int | None) -> float:
    """The one-sided level of each look at the candidate of a number, or at one alone."""
    share = 1.0 if number is None else float(number**-DECAY / special.zeta(DECAY))
    return ALPHA * share / LOOKS


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """A ledger, written at the end of the block if it changed; who opens it meanwhile waits.

    Raises:
        DataError: the file is no ledger.
        StoreError: it cannot be locked or written.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_folder(path.parent))
        except OSError as error:
            what = f"the ledger's folder cannot be locked ({error.strerror})."
            raise StoreError(what, where=str(path), remedy="Name a file elsewhere.") from None
        try:
            ledger = Ledger.model_validate_json(path.read_bytes()) if path.exists() else Ledger()
        except (OSError, ValidationError) as error:
            remedy = "Name another file: a new stream begins there."
            raise DataError("is no ledger.", where=str(path), remedy=remedy) from error
        before = len(ledger.looks)
        yield ledger
        if len(ledger.looks) > before:
            write_file(path, f"{ledger.model_dump_json(indent=1)}\n", "the ledger")
