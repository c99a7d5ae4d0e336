"""Executes a study on this machine: worker processes train, then each cost is measured alone.

The parent imports no torch and executes nothing; it starts workers, watches the store, asks for
more runs when the known ones have ended, and replaces workers that die.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.memory_budget import MemoryBudget
from paretune.execution.progress.observer import Observer
from paretune.execution.run_executor import FleetLimits
from paretune.execution.signals import interrupt_on_signals
from paretune.execution.study_loop import STAGES, StudyLoop
from paretune.execution.worker_crashes import WorkerCrashes
from paretune.execution.worker_pool import WORKER, WorkerPool, WorkerSettings
from paretune.measuring.processor import count_usable_cores
from paretune.store import RunStatus, Storage
from paretune.study import DEFAULT_COST_SECONDS

DEFAULT_FLEET_SIZE = 8
"""Default limit of runs that train together in one worker."""


@dataclass(frozen=True)
class LocalExecutor:
    """Worker processes on this machine; see :class:`~paretune.execution.executor.Executor`.

    Attributes:
        workers: processes that train at the same time.
        threads: of each; a cost is measured with all processors of the machine.
        device: of the workers: ``cpu``, ``cuda``, ``cuda:1`` ...
        fleet: at most so many runs train together in one worker; None: where it pays.
        memory_bytes: what the runs of all workers may take together; None: no run waits for memory.
        keep_bytes: trained weights of a run are kept up to this size; None: always.
        cost_seconds: for timing the steps of one cost.
        lease_seconds: how long a claim outlives a worker that nobody can prove dead.
    """

    workers: int
    threads: int = 1
    device: str = "cpu"
    fleet: int | None = 1
    stages: Sequence[str] = STAGES
    memory_bytes: int | None = None
    keep_bytes: int | None = None
    cost_seconds: float = DEFAULT_COST_SECONDS
    lease_seconds: float = 60.0
    command: Sequence[str] = WORKER

    @interrupt_on_signals()
    def execute(self, store: Storage, study_hash: str, callbacks: StudyCallbacks) -> StudySummary:
        """See :class:`~paretune.execution.executor.Executor`."""
        observer = callbacks.observer
        pool = WorkerPool(store.folder, study_hash, self._worker_settings())
        crashes = WorkerCrashes(store, observer.note)
        loop = StudyLoop(
            store, study_hash, callbacks, self.stages, self.workers, crashes.reset_idle_crashes
        )

        def collect() -> None:
            if exits := pool.reap():
                crashes.handle_exits(exits, store.load_statuses(study_hash))

        try:
            summary = loop.run(collect, lambda waiting: self._start_workers(pool, store, waiting))
            pool.stop()
        except (KeyboardInterrupt, OSError):  # OSError: nobody reads any more what is printed
            _stop_workers(pool, observer)
            raise
        finally:
            pool.kill()
        return summary

    def _worker_settings(self) -> WorkerSettings:
        max_runs = DEFAULT_FLEET_SIZE if self.fleet is None else self.fleet
        return WorkerSettings(
            device=self.device,
            lease_seconds=self.lease_seconds,
            fleets=FleetLimits(max_runs, self.workers, self.fleet is not None, self.device),
            keep_bytes=self.keep_bytes,
            memory_bytes=self.memory_bytes,
            cost_seconds=self.cost_seconds,
            command=self.command,
        )

    def _start_workers(
        self, pool: WorkerPool, store: Storage, waiting: Sequence[RunStatus]
    ) -> None:
        """Start the workers that the waiting runs need; training goes before costs."""
        to_train = [status for status in waiting if status.stage != "cost"]
        if to_train:
            count = self.workers
            if pool.training_count < self.workers:
                busy = sum(status.owner in pool.owners for status in to_train)
                count = min(self.workers, busy + self._count_admitted(store, to_train))
            for _ in range(pool.training_count, count):
                pool.start([stage for stage in self.stages if stage != "cost"], self.threads)
        elif pool.training_count:
            pool.stop()
        elif not pool.owners and any(status.is_claimable for status in waiting):
            pool.start(["cost"], count_usable_cores(), solo=True)

    def _count_admitted(self, store: Storage, to_train: Sequence[RunStatus]) -> int:
        """How many claimable runs may start now, each in a worker of its own."""
        budget = MemoryBudget.load(store, self.memory_bytes)
        by_owner: dict[str, list[str]] = {}
        for status in to_train:
            if status.state == "running" and not status.is_claimable:
                by_owner.setdefault(status.owner or "", []).append(status.run_id)
        running, admitted = list(by_owner.values()), 0
        for status in to_train:
            full = admitted == self.workers
            if not full and status.is_claimable and budget.admits(status.run_id, running):
                running.append([status.run_id])
                admitted += 1
        return admitted


def _stop_workers(pool: WorkerPool, observer: Observer) -> None:
    def note(text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal or the pipe may be gone
            observer.note(text)

    try:
        pool.request_stop()
        note("Stopping: workers save their runs (Ctrl-C again kills them at once).")
        pool.stop()
    except KeyboardInterrupt:
        pool.kill()
        note("Killed: their runs go on from the last checkpoint.")
    note("Stopped. Nothing is lost: the same command continues.")
