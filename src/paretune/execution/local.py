"""Executes a study on this machine: worker processes train, then each cost is measured alone.

The parent imports no torch and executes nothing; it starts workers, watches the store, asks for
more runs when the known ones have ended, and replaces workers that die.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from paretune.execution.executor import StudyCallbacks, StudySummary
from paretune.execution.memory_budget import MemoryBudget
from paretune.execution.progress.observer import Observer
from paretune.execution.progress.snapshot import take_snapshot
from paretune.execution.run_executor import FleetLimits
from paretune.execution.signals import interrupt_on_signals
from paretune.execution.worker_crashes import WorkerCrashes
from paretune.execution.worker_pool import WORKER, WorkerPool, WorkerSettings
from paretune.measuring.processor import count_usable_cores
from paretune.store import RunStatus, Storage
from paretune.study import DEFAULT_COST_SECONDS

POLL_SECONDS = 0.2
STAGES = ("tune", "final", "cost")
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
        started = time.monotonic()
        observer = callbacks.observer
        pool = WorkerPool(store.folder, study_hash, self._worker_settings())
        crashes = WorkerCrashes(store, observer.note)
        watcher = _Watcher(observer, crashes, self.workers, callbacks.planned_runs)
        expanded_at = finals_at = -1  # numbers of ended runs at the last call back
        try:
            while True:
                exits = pool.reap()
                statuses = store.load_statuses(study_hash)
                if exits:
                    crashes.handle_exits(exits, statuses)
                    statuses = store.load_statuses(study_hash)
                watcher.look(statuses)
                ended = sum(status.ended for status in statuses)
                finals = sum(status.ended for status in statuses if status.stage == "final")
                if finals != finals_at:
                    callbacks.after_final_runs()
                    finals_at = finals
                waiting = [s for s in statuses if s.stage in self.stages and not s.ended]
                to_train = [s for s in waiting if s.stage != "cost"]
                if ended != expanded_at and all(s.state != "todo" for s in to_train):
                    callbacks.add_runs()
                    # The statuses are read again before anything is concluded from them: another
                    # process may have added the same runs first.
                    expanded_at = ended
                    continue
                if not waiting:
                    break
                self._start_workers(pool, store, waiting)
                time.sleep(POLL_SECONDS)
            pool.stop()
        except (KeyboardInterrupt, OSError):  # OSError: nobody reads any more what is printed
            _stop_workers(pool, observer)
            raise
        finally:
            pool.kill()
        return watcher.summarise(statuses, time.monotonic() - started)

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


class _Watcher:
    """Tells the observer what has changed since the last look."""

    def __init__(
        self, observer: Observer, crashes: WorkerCrashes, workers: int, planned_runs: int
    ) -> None:
        self._observer, self._crashes = observer, crashes
        self._workers, self._planned_runs = workers, planned_runs
        self._ended_before: set[str] | None = None
        self._newly_ended = 0

    def look(self, statuses: Sequence[RunStatus]) -> None:
        ended = {status.run_id for status in statuses if status.ended}
        snapshot = take_snapshot(statuses, self._workers, self._planned_runs)
        if self._ended_before is None and ended:
            self._observer.note(f"{len(ended)} of {snapshot.total} runs are done already.")
        elif self._ended_before is not None:
            for status in statuses:
                if status.run_id in ended - self._ended_before:
                    self._observer.ended(status, snapshot)
                    self._crashes.reset_idle_crashes()
                    self._newly_ended += 1
        self._ended_before = ended
        self._observer.update(snapshot)

    def summarise(self, statuses: Sequence[RunStatus], seconds: float) -> StudySummary:
        return StudySummary(
            total=len(statuses),
            ended=self._newly_ended,
            outcomes=dict(Counter(s.outcome or "ok" for s in statuses if s.ended)),
            failed=tuple(s for s in statuses if s.state == "failed" and s.outcome == "error"),
            seconds=seconds,
        )
