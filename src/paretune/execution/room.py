"""Which runs may train side by side: those that memory bears together, by what each needs.

The parent predicts what a run needs before it is claimed and keeps it in the store
(``memory/RUN_ID``, bytes of its worker). A run that the system killed beside others trains by
itself from then on (``by-itself/RUN_ID``). What would not fit waits, whoever asks for it; where
nothing else runs, any run may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paretune.planning.workers import NEEDS
from paretune.store import Store

BY_ITSELF = "by-itself/"
UNKNOWN_BYTES = 2 * 2**30
"""What a run is taken to need of which nobody said anything."""


@dataclass
class Room:
    """Memory for the runs of all workers; None: whoever started them knows what they do.

    ``refused`` says whether the last question had a no among its answers.
    """

    budget_bytes: int | None
    needs: Mapping[str, int] = field(default_factory=dict)
    by_itself: frozenset[str] = frozenset()
    refused: bool = False

    @classmethod
    def of(cls, store: Store, budget_bytes: int | None) -> Room:
        """As the store has it now."""
        needs = store.settings(NEEDS) if budget_bytes is not None else {}
        return cls(
            budget_bytes,
            {run_id: int(value) for run_id, value in needs.items()},
            frozenset(store.settings(BY_ITSELF)),
        )

    def admits(self, run_id: str, running: Sequence[Iterable[str]]) -> bool:
        """Whether a run fits beside those that run now, listed by worker.

        Runs of one worker are a fleet: they share a model, and what they hold beside it has a
        budget of its own (:mod:`paretune.execution.fleet`).
        """
        if not running:
            return True
        admitted = self._fits(run_id, [list(held) for held in running])
        self.refused |= not admitted
        return admitted

    def _fits(self, run_id: str, running: Sequence[Sequence[str]]) -> bool:
        if self.by_itself & {run_id, *(held for fleet in running for held in fleet)}:
            return False
        if self.budget_bytes is None:
            return True
        taken = sum(max(map(self._need, fleet)) for fleet in running)
        return taken + self._need(run_id) <= self.budget_bytes

    def _need(self, run_id: str) -> int:
        return self.needs.get(run_id, UNKNOWN_BYTES)
