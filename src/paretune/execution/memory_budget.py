"""Which runs may train side by side: those that fit in memory together.

The parent predicts what a run needs before it is claimed and keeps it in the store
(``memory/RUN_ID``, bytes of its worker). A run that the system killed beside others runs in
isolation from then on (``by-itself/RUN_ID``). A run that would not fit waits, whichever worker
asks for it; where nothing else runs, any run may start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paretune.planning.worker_count import MEMORY_PREFIX
from paretune.store import Storage

ISOLATED_PREFIX = "by-itself/"
DEFAULT_RUN_BYTES = 2 * 2**30
"""Assumed need of a run without a prediction."""


@dataclass
class MemoryBudget:
    """Memory for the runs of all workers.

    Attributes:
        budget_bytes: None: unlimited, since the user chose the number of workers.
        run_bytes: predicted need of a run's worker, by run id.
        isolated: ids of runs that run with nothing beside them.
        has_refused: whether a run was refused since this was loaded.
    """

    budget_bytes: int | None
    run_bytes: Mapping[str, int] = field(default_factory=dict)
    isolated: frozenset[str] = frozenset()
    has_refused: bool = False

    @classmethod
    def load(cls, store: Storage, budget_bytes: int | None) -> MemoryBudget:
        """With the needs that the store has now."""
        needs = store.get_settings(MEMORY_PREFIX) if budget_bytes is not None else {}
        return cls(
            budget_bytes,
            {run_id: int(value) for run_id, value in needs.items()},
            frozenset(store.get_settings(ISOLATED_PREFIX)),
        )

    @property
    def is_limited(self) -> bool:
        """Whether it may refuse a run."""
        return self.budget_bytes is not None or bool(self.isolated)

    def admits(self, run_id: str, running: Sequence[Iterable[str]]) -> bool:
        """Whether a run fits beside those that run now, listed by worker.

        The runs of one worker are a fleet: they share a model, and what they hold beside it has a
        budget of its own (:mod:`paretune.execution.fleet_claims`).
        """
        if not running:
            return True
        admitted = self._fits(run_id, [list(fleet) for fleet in running])
        self.has_refused |= not admitted
        return admitted

    def _fits(self, run_id: str, running: Sequence[Sequence[str]]) -> bool:
        if self.isolated & {run_id, *(other for fleet in running for other in fleet)}:
            return False
        if self.budget_bytes is None:
            return True
        used_bytes = sum(max(map(self._need, fleet)) for fleet in running)
        return used_bytes + self._need(run_id) <= self.budget_bytes

    def _need(self, run_id: str) -> int:
        return self.run_bytes.get(run_id, DEFAULT_RUN_BYTES)
