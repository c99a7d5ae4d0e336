"""Executes a study by workers elsewhere: serves its store until all runs have ended.

This process trains nothing: it answers the workers, shows what they do, and adds runs as results
come in. See docs/cluster.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.signals import interrupt_on_signals
from paretune.execution.study_loop import STAGES, StudyLoop
from paretune.store import Storage
from paretune.store.remote.service import StoreService

LINGER_SECONDS = 30.0
"""How long a finished study is still served, so that workers hear that nothing is left."""


@dataclass(frozen=True)
class ServingExecutor:
    """Serves a store; see :class:`~paretune.execution.executor.Executor`.

    Attributes:
        service: over the same store.
        sleep: waits at the end, for so many seconds.
    """

    service: StoreService
    sleep: Callable[[float], object] = time.sleep

    @interrupt_on_signals()
    def execute(self, store: Storage, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        """See :class:`~paretune.execution.executor.Executor`."""
        loop = StudyLoop(store, study_hash, callbacks, STAGES, workers=0)
        summary = loop.run(lambda: None, lambda waiting: None)
        self.service.complete.set()
        if self.service.counts.requests:  # somebody works on it
            self.sleep(LINGER_SECONDS)
        return summary
