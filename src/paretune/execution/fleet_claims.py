"""A worker that trains several claimed runs at once, and gives every one its own end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune.errors import StaleClaimError
from paretune.execution.lease import Lease
from paretune.execution.memory_budget import ISOLATED_PREFIX
from paretune.execution.progress.describe import describe_run
from paretune.execution.run_executor import FleetExecutor, Outcome, ReportProgress, RunExecutor
from paretune.execution.signals import StopRequest
from paretune.measuring.devices import read_free_bytes
from paretune.measuring.processor import read_available_bytes
from paretune.store import Claim, Store
from paretune.study import Run

FLEET_MEMORY_PARTS = 4
"""A fleet's runs may hold one part in so many of the memory that is free, beside their model."""
DEFAULT_FLEET_SIZE = 8
"""Most runs that train together in one worker, where nobody says."""
FLEET_OUT_OF_MEMORY_NOTE = "its fleet did not fit in memory, so it was trained alone"
DEVICE_LOST_NOTE = "a CUDA error ended its fleet, so it was trained alone"


@dataclass(frozen=True)
class FleetLimits:
    """How large fleets may be.

    ``max_runs`` runs; ``workers`` share the runs and the memory. ``even_if_slower``: also where the
    runs are no
    faster together, as a user who asks for fleets wants. ``device``: whose memory it is.
    """

    max_runs: int = 1
    workers: int = 1
    even_if_slower: bool = False
    device: str = "cpu"


NO_FLEETS = FleetLimits()
"""No fleets."""


def fleet_budget_bytes(workers: int, device: str = "cpu") -> int:
    """What the runs of one fleet may hold now, where so many workers share the device's memory."""
    on_gpu = device.startswith("cuda")
    free = read_free_bytes(device) if on_gpu else read_available_bytes()
    return free // (FLEET_MEMORY_PARTS * workers)


@dataclass(eq=False)
class ClaimedJob:
    """A claimed run as the fleet's job, its lease renewed as long as it is open."""

    claim: Claim
    checkpoint: Path
    lease: Lease
    report: ReportProgress

    @property
    def run(self) -> Run:
        """What to do."""
        return self.claim.run


class FleetClaims:
    """The claims that one fleet holds.

    Args:
        store: opened by this thread.
        study_hash: whose runs.
        fleets: what trains them.
        asked: how many at once.
        stop: asked at every step.
        say: told what a user should know.
    """

    def __init__(
        self,
        store: Store,
        study_hash: str,
        fleets: FleetExecutor,
        asked: FleetLimits,
        stop: StopRequest,
        say: Callable[[str], None],
    ) -> None:
        self._store, self._study_hash, self._fleets = store, study_hash, fleets
        self._asked, self._stop, self._say = asked, stop, say
        self._open: list[ClaimedJob] = []

    def gather(self, first: Claim) -> int:
        """Claim runs to train with this one; how many there are in all.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
        """
        self._start_lease(first)  # before the model is opened, which may take longer than a lease
        asked, budget = self._asked, fleet_budget_bytes(self._asked.workers, self._asked.device)
        most = self._fleets.capacity(
            first.run, asked.max_runs, budget, where_it_pays=not asked.even_if_slower
        )
        self._claim_more(first, most - 1)
        return len(self._open)

    def train(self) -> None:
        """Train all that is held, and what comes after it.

        Raises:
            TooMuchError: memory ended; :meth:`give_up` says what is still to be done.
            KeyboardInterrupt: stopped.
        """
        first = self._open[0].claim
        with self._stop.interruptible():
            self._fleets.train(
                list(self._open), lambda most: self._claim_more(first, most), self._finish
            )

    def stop_renewing(self) -> list[Claim]:
        """Stop renewing; the claims of runs that have not ended."""
        for job in self._open:
            job.lease.__exit__()
        claims, self._open = [job.claim for job in self._open], []
        return claims

    def _claim_more(self, first: Claim, most: int) -> list[ClaimedJob]:
        if most < 1 or self._stop.asked:
            return []
        kind = self._fleets.kind(first.run)
        ways = ("halve/", "alone/", ISOLATED_PREFIX)
        not_together = {run_id for way in ways for run_id in self._store.settings(way)}

        def alike(run_id: str, run: Run) -> bool:
            fits = run.stage != "cost" and run_id not in not_together
            return fits and self._fleets.kind(run) == kind

        with self._stop.deferred():
            taken = self._store.claim_matching(
                first.owner,
                self._study_hash,
                alike,
                most=most,
                workers=self._asked.workers,
                lease_seconds=first.lease_seconds,
            )
            return [self._start_lease(claim) for claim in taken]

    def _start_lease(self, claim: Claim) -> ClaimedJob:
        lease = Lease(self._store.folder, claim)

        def report(progress: dict[str, Any]) -> None:
            self._stop.check()
            lease.report(progress)

        job = ClaimedJob(claim, self._store.checkpoint(claim.run_id), lease, report)
        lease.__enter__()
        self._open.append(job)
        return job

    def _finish(self, job: Any, outcome: Outcome) -> None:
        with self._stop.deferred():
            self._open.remove(job)
            job.lease.__exit__()
            try:
                self._store.finish(job.claim, outcome.result, outcome.measured, outcome.blobs)
            except StaleClaimError as error:
                self._say(f"{describe_run(job.run)}: {error}")


def add_note(execute: RunExecutor, why: str) -> RunExecutor:
    """The same, telling in the result why the run left its fleet."""

    def run_alone(run: Run, *, checkpoint: Path, report: ReportProgress, halvings: int) -> Outcome:
        outcome = execute(run, checkpoint=checkpoint, report=report, halvings=halvings)
        outcome.result["notes"] = [*outcome.result.get("notes", []), why]
        return outcome

    return run_alone
