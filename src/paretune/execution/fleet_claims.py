"""The claims of a fleet: runs that one worker trains together."""

from __future__ import annotations

from collections.abc import Callable

from paretune.errors import StaleClaimError
from paretune.execution.leases import Leases
from paretune.execution.memory_budget import ISOLATED_PREFIX
from paretune.execution.progress import describe_run
from paretune.execution.run_executor import RunExecutor
from paretune.execution.signals import StopRequest
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import read_free_bytes
from paretune.measuring.processor import read_available_bytes
from paretune.store import Claim, Storage
from paretune.study import Run
from paretune.training.runs.outcome import Outcome

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


def list_solo_runs(store: Storage) -> set[str]:
    """Ids of the runs that join no fleet."""
    return {run_id for prefix in NO_FLEET_PREFIXES for run_id in store.get_settings(prefix)}


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
        self._leases = Leases(store, settings.lease_seconds, stop)
        self._claims: dict[str, Claim] = {}

    def gather(self, first: Claim) -> int:
        """Claim runs that train with this one; return the number of all.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
        """
        self._leases.__enter__()
        self._start(first)  # before the model is opened, which may take longer than a lease
        settings = self._settings
        budget = fleet_budget_bytes(settings.device_workers, settings.device)
        capacity = self._executor.fleet_capacity(first.run, settings, budget)
        self._claim_more(first, capacity - 1)
        return len(self._claims)

    def execute(self) -> None:
        """Execute all claimed runs, and those that take their places.

        Raises:
            FleetOutOfMemoryError: memory ended; :meth:`stop_renewing` gives what is left to do.
            KeyboardInterrupt: stopped.
        """
        claims = list(self._claims.values())
        with self._stop.interruptible():
            self._executor.execute_fleet(
                claims, lambda limit: self._claim_more(claims[0], limit), self._finish
            )

    def stop_renewing(self) -> list[Claim]:
        """Stop renewing; return the claims of runs that have not ended."""
        self._leases.__exit__()
        claims, self._claims = list(self._claims.values()), {}
        return claims

    def _claim_more(self, first: Claim, limit: int) -> list[Claim]:
        if limit < 1 or self._stop.requested:
            return []
        key = self._executor.fleet_key(first.run)
        excluded = list_solo_runs(self._store)

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

    def _start(self, claim: Claim) -> Claim:
        self._claims[claim.run_id] = self._leases.add(claim)
        return self._claims[claim.run_id]

    def _finish(self, claim: Claim, outcome: Outcome) -> None:
        with self._stop.deferred():
            del self._claims[claim.run_id]
            self._leases.drop(claim.run_id)
            try:
                self._store.finish(claim, outcome.result, outcome.measured, outcome.blobs)
            except StaleClaimError as error:
                self._warn(f"{describe_run(claim.run)}: {error}")
