"""Executor: what executes the runs of a study, on this machine or on a cluster.

:class:`~paretune.execution.local.LocalExecutor` (worker processes) is one implementation. Another
one passes ``paretune.testing.ExecutorContract``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from paretune.execution.progress import Observer
from paretune.store import RunStatus, Storage


@dataclass(frozen=True)
class StudySummary:
    """How a study ended.

    Attributes:
        ended: runs that ended while this process watched.
        failed: runs that stopped with an unexpected error.
    """

    total: int
    ended: int
    outcomes: Mapping[str, int]
    failed: tuple[RunStatus, ...]
    seconds: float


def do_nothing() -> None:
    """The default of a callback."""


@dataclass(frozen=True)
class StudyCallbacks:
    """What an executor calls while it executes a study.

    Attributes:
        add_runs: adds the runs that the records make possible to the store; returns how many.
        after_final_runs: called whenever final runs have ended.
        planned_runs: how many runs the study will have in all; 0: unknown.
        deadline: of ``time.monotonic``, when a time budget is used up; None: there is none.
    """

    observer: Observer
    add_runs: Callable[[], int]
    after_final_runs: Callable[[], object] = do_nothing
    planned_runs: int = 0
    deadline: float | None = None


class Executor(Protocol):
    """Executes all runs of a study that is saved in a store.

    Other processes open the same store by its ``folder``. These hold for every implementation:

    - It returns when no run is todo or running, here or in another process, and ``add_runs`` adds
      none. It calls ``add_runs`` first when nothing is left to train, and again whenever all runs
      but costs have ended and new results are there.
    - Every run ends exactly once, as done or failed. A run that fails stops no other.
    - Runs that another process holds are waited for, and taken over if it dies.
    - At the ``deadline`` the runs in hand are given back with what they have trained, and it
      returns; the same call continues.
    - ``KeyboardInterrupt``: the runs in hand are given back, then it is raised; the same call
      continues.
    - ``observer.ended`` is called once for every run that ended, also in another process.
    """

    def execute(self, store: Storage, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        """Execute the runs of a study, and those that ``add_runs`` adds as results come in.

        Raises:
            KeyboardInterrupt: stopped; nothing is lost.
            ParetuneError: no worker can start, or the store cannot be used.
        """
