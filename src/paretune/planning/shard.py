"""A share of a study, for a job array: whole cells, each in the share that its hash gives.

So trials, final runs and folds of a cell stay together, and shares need nothing from one another.
No share has costs: one machine measures them after the merge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from paretune.errors import StudyError, spell_option
from paretune.study import digest


@dataclass(frozen=True)
class Shard:
    """One share of a study; ``index`` counts from 1 to ``count``."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a share such as ``3/16``.

        Raises:
            StudyError: the text is not a share.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise StudyError(
                "is no share of a study.",
                where=spell_option("shard", text),
                remedy="Write the share and how many there are: 1/16 to 16/16.",
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"shard-{self.index}-of-{self.count}"

    def has(self, cell: tuple[str, str, str], *, proposed: bool = False) -> bool:
        """Return whether a cell (task, model, method) is in this share.

        Args:
            proposed: whether its method proposes runs. Such cells of one model stay together: they
                may share trials, and may begin with results on an earlier task.
        """
        unit = ["searches", cell[1]] if proposed else list(cell)
        return int(digest(unit)[:16], 16) % self.count == self.index - 1
