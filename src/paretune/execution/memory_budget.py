"""Which runs may train side by side: those that memory bears together, by what each needs.

The parent predicts what a run needs before it is claimed and keeps it in the store
(``memory/RUN_ID``, bytes of its worker). A run that the system killed beside others trains by
itself from then on (``by-itself/RUN_ID``). What would not fit waits, whoever asks for it; where
nothing else runs, any run may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paretune.planning.worker_count import MEMORY_PREFIX
from paretune.store import Store

ISOLATED_PREFIX = "by-itself/"
DEFAULT_RUN_BYTES = 2 * 2**30
"""What a run is taken to need of which nobody said anything."""


@dataclass
class MemoryBudget:
    """Memory for the runs of all workers; None: whoever started them knows what they do.

    ``has_refused`` says whether the last question had a no among its answers.
    """

    budget_bytes: int | None
    run_bytes: Mapping[str, int] = field(default_factory=dict)
    isolated: frozenset[str] = frozenset()
    has_refused: bool = False

    @classmethod
    def of(cls, store: Store, budget_bytes: int | None) -> MemoryBudget:
        """As the store has it now."""
        needs = store.settings(MEMORY_PREFIX) if budget_bytes is not None else {}
        return cls(
            budget_bytes,
            {run_id: int(value) for run_id, value in needs.items()},
            frozenset(store.settings(ISOLATED_PREFIX)),
        )

    def admits(self, run_id: str, running: Sequence[Iterable[str]]) -> bool:
        """Whether a run fits beside those that run now, listed by worker.

        Runs of one worker are a fleet: they share a model, and what they hold beside it has a
        budget of its own (:mod:`paretune.execution.fleet_claims`).
        """
        if not running:
            return True
        admitted = self._fits(run_id, [list(held) for held in running])
        self.has_refused |= not admitted
        return admitted

    def _fits(self, run_id: str, running: Sequence[Sequence[str]]) -> bool:
        if self.isolated & {run_id, *(held for fleet in running for held in fleet)}:
            return False
        if self.budget_bytes is None:
            return True
        taken = sum(max(map(self._need, fleet)) for fleet in running)
        return taken + self._need(run_id) <= self.budget_bytes

    def _need(self, run_id: str) -> int:
        return self.run_bytes.get(run_id, DEFAULT_RUN_BYTES)
