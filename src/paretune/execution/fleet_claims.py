"""Claims of one worker as jobs: one for a run alone, several for a fleet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from paretune.errors import StaleClaimError, StoreError
from paretune.execution.memory_budget import ISOLATED_PREFIX
from paretune.execution.progress.describe import describe_run
from paretune.execution.run_executor import RunExecutor
from paretune.execution.signals import StopRequest
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import read_free_bytes
from paretune.measuring.processor import read_available_bytes
from paretune.store import Claim, Storage
from paretune.study import Run
from paretune.training.runs.job import Outcome

PROGRESS_SECONDS = 2.0


class Lease:
    """Renews a claim from a thread of its own, with its own connection; a context manager.

    The thread writes progress at most every two seconds, and renews at least four times in a
    lease. Where the run has passed to another worker, or the store cannot be written, the next
    :meth:`report` raises that error.
    """

    def __init__(self, store: Storage, claim: Claim) -> None:
        self._store, self._claim = store, claim
        self._latest: dict[str, Any] | None = None
        self._error: StoreError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def report(self, progress: Mapping[str, Any]) -> None:
        """Take the newest progress; cheap, to be called after every step.

        Raises:
            StaleClaimError: the lease was lost; the run must not go on here.
            StoreError: the store cannot be written.
        """
        if self._error is not None:
            raise self._error
        self._latest = {**(self._latest or {}), **progress}

    def _renew_until_stopped(self) -> None:
        renewal = self._claim.lease_seconds / 4
        pause = min(renewal, PROGRESS_SECONDS)
        written, idle = None, 0.0
        try:
            with self._store.reopen() as store:
                while not self._stopped.wait(pause):
                    latest, idle = self._latest, idle + pause
                    if latest is not written or idle >= renewal:
                        store.renew(self._claim, latest)
                        written, idle = latest, 0.0
        except StoreError as error:
            self._error = error


FLEET_MEMORY_PARTS = 4
"""The runs of a fleet may hold one part in so many of the free memory, beside their model."""
HALVE_PREFIX = "halve/"
"""A setting of the store for each run: how often its micro-batch is halved."""
ALONE_PREFIX = "alone/"
"""A setting of the store for each run that has left its fleet: why."""
NO_FLEET_PREFIXES = (HALVE_PREFIX, ALONE_PREFIX, ISOLATED_PREFIX)
"""A run with one of these settings joins no fleet."""


def fleet_budget_bytes(workers: int, device: str = "cpu") -> int:
    """Bytes that the runs of one fleet may hold where ``workers`` share the device's memory."""
    on_gpu = device.startswith("cuda")
    free = read_free_bytes(device) if on_gpu else read_available_bytes()
    return free // (FLEET_MEMORY_PARTS * workers)


@dataclass(eq=False)
class ClaimedJob:
    """A claimed run as a job; its lease is renewed while the context is open."""

    claim: Claim
    checkpoint: Path
    lease: Lease
    stop: StopRequest

    @classmethod
    def of(cls, store: Storage, claim: Claim, stop: StopRequest) -> Self:
        """The job of a claim."""
        return cls(claim, store.checkpoint_path(claim.run_id), Lease(store, claim), stop)

    @property
    def run(self) -> Run:
        """What to do."""
        return self.claim.run

    def report(self, progress: dict[str, Any]) -> None:
        """Take the newest progress.

        Raises:
            KeyboardInterrupt: a stop was requested.
            StoreError: the lease was lost, or the store cannot be written.
        """
        self.stop.check()
        self.lease.report(progress)

    def __enter__(self) -> Self:
        self.lease.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.lease.__exit__()


class FleetClaims:
    """The claims that one fleet holds.

    Args:
        warn: called with what a user should know.
    """

    def __init__(
        self,
        store: Storage,
        study_hash: str,
        executor: RunExecutor,
        settings: WorkerSettings,
        stop: StopRequest,
        warn: Callable[[str], None],
    ) -> None:
        self._store, self._study_hash, self._executor = store, study_hash, executor
        self._settings, self._stop, self._warn = settings, stop, warn
        self._jobs: list[ClaimedJob] = []

    def gather(self, first: Claim) -> int:
        """Claim runs that train with this one; return the number of all.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
        """
        self._start(first)  # before the model is opened, which may take longer than a lease
        settings = self._settings
        budget = fleet_budget_bytes(settings.device_workers, settings.device)
        capacity = self._executor.fleet_capacity(first.run, settings, budget)
        self._claim_more(first, capacity - 1)
        return len(self._jobs)

    def execute(self) -> None:
        """Execute all claimed runs, and those that take their places.

        Raises:
            FleetOutOfMemoryError: memory ended; :meth:`stop_renewing` gives what is left to do.
            KeyboardInterrupt: stopped.
        """
        first = self._jobs[0].claim
        with self._stop.interruptible():
            self._executor.execute_fleet(
                list(self._jobs), lambda limit: self._claim_more(first, limit), self._finish
            )

    def stop_renewing(self) -> list[Claim]:
        """Stop renewing; return the claims of runs that have not ended."""
        for job in self._jobs:
            job.__exit__()
        claims, self._jobs = [job.claim for job in self._jobs], []
        return claims

    def _claim_more(self, first: Claim, limit: int) -> list[ClaimedJob]:
        if limit < 1 or self._stop.requested:
            return []
        key = self._executor.fleet_key(first.run)
        excluded = {
            run_id for prefix in NO_FLEET_PREFIXES for run_id in self._store.get_settings(prefix)
        }

        def matches(run_id: str, run: Run) -> bool:
            eligible = run.stage != "cost" and run_id not in excluded
            return eligible and self._executor.fleet_key(run) == key

        with self._stop.deferred():
            claims = self._store.claim_matching(
                first.owner,
                self._study_hash,
                matches,
                limit=limit,
                workers=self._settings.workers,
                lease_seconds=first.lease_seconds,
            )
            return [self._start(claim) for claim in claims]

    def _start(self, claim: Claim) -> ClaimedJob:
        job = ClaimedJob.of(self._store, claim, self._stop)
        job.__enter__()
        self._jobs.append(job)
        return job

    def _finish(self, job: Any, outcome: Outcome) -> None:
        with self._stop.deferred():
            self._jobs.remove(job)
            job.__exit__()
            try:
                self._store.finish(job.claim, outcome.result, outcome.measured, outcome.blobs)
            except StaleClaimError as error:
                self._warn(f"{describe_run(job.run)}: {error}")
