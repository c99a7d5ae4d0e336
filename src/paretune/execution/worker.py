"""A worker: claim a run, execute it, write what it left, and again.

``python -m paretune.execution.worker STORE STUDY_HASH SETTINGS`` is one, with
:class:`~paretune.execution.worker_settings.WorkerSettings` as JSON. Exit codes: 0 nothing left to
claim (or the limit reached), 130 stopped (the run in hand was given back), 10 a CUDA error left
this process without its GPU (the run was recorded as failed), otherwise as in paretune.errors.

A run that fails is recorded as failed and the worker goes on.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.claims import Leases, finish_run
from paretune.execution.cost_processes import hold_cost_lock, run_each_in_fork
from paretune.execution.executor import POLL_SECONDS
from paretune.execution.memory_budget import (
    ALONE_PREFIX,
    HALVE_PREFIX,
    NO_FLEET_PREFIXES,
    MemoryBudget,
    fleet_budget_bytes,
    list_solo_runs,
)
from paretune.execution.progress import describe_run
from paretune.execution.run_executor import RunExecutor, make_executor
from paretune.execution.signals import StopRequest, stop_when_orphaned
from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.files import is_disk_error
from paretune.measuring.devices import identify_device
from paretune.measuring.processor import THREAD_VARIABLES
from paretune.owner import current_owner
from paretune.store import Claim, Store
from paretune.store.storage import WorkerStorage
from paretune.study import Run
from paretune.terminal import echo, sanitise_tracebacks_and_warnings
from paretune.training.runs.outcome import FleetOutOfMemoryError, Outcome

FLEET_OUT_OF_MEMORY_NOTE = "its fleet did not fit in memory, so it was trained alone"
DEVICE_LOST_NOTE = "a CUDA error ended its fleet, so it was trained alone"


def run_worker(
    store: WorkerStorage,
    study_hash: str,
    executor: RunExecutor,
    stop: StopRequest,
    settings: WorkerSettings = DEFAULT_SETTINGS,
) -> None:
    """Execute runs until none is left, the limit is reached, or a stop is requested.

    Raises:
        StoreError: the store cannot be used any more.
        DeviceLostError: a CUDA error ended what this process can do.
    """
    with Leases(store, settings.lease_seconds, stop) as leases:
        _Worker(store, study_hash, executor, stop, settings, leases).run()


@dataclass
class _Worker:
    """``in_hand``: the claims of the runs that it executes now: one, or those of a fleet."""

    store: WorkerStorage
    study_hash: str
    executor: RunExecutor
    stop: StopRequest
    settings: WorkerSettings
    leases: Leases
    in_hand: dict[str, Claim] = field(default_factory=dict)

    def run(self) -> None:
        settings, claimed = self.settings, 0
        owner = current_owner(identify_device(settings.device))
        while not self.stop.requested and (settings.limit is None or claimed < settings.limit):
            budget = MemoryBudget.load(self.store, settings.memory_bytes)
            claim = self.store.claim(
                owner,
                self.study_hash,
                settings.stages,
                settings.lease_seconds,
                budget.admits if budget.is_limited else None,
            )
            if claim is not None:
                claimed += 1
                self._execute(claim, alone=not self._may_join_fleet(claim))
            elif settings.wait:
                if budget.has_refused:
                    self.executor.release_memory()  # others wait for what the cached model takes
                time.sleep(POLL_SECONDS)
            else:
                return

    def _may_join_fleet(self, claim: Claim) -> bool:
        """Whether the run may train with others; one that was too large before may not."""
        settings = self.settings
        if settings.fleet_size < 2 or settings.limit is not None or claim.run.stage == "cost":
            return False
        keys = (f"{prefix}{claim.run_id}" for prefix in NO_FLEET_PREFIXES)
        return not any(self.store.get_setting(key) for key in keys)

    def _execute(self, first: Claim, *, alone: bool, notes: tuple[str, ...] = ()) -> None:
        """Execute a run; unless alone, with those that can train with it."""
        self._hold(first)  # before the model is opened, which may take longer than a lease
        try:
            if not alone:
                workers, device = self.settings.device_workers, self.settings.device
                budget_bytes = fleet_budget_bytes(workers, device)
                capacity = self.executor.fleet_capacity(first.run, self.settings, budget_bytes)
                self._claim_more(first, capacity - 1)
            if len(self.in_hand) > 1:
                self._train_together(first)
            else:
                self._execute_alone(self.in_hand[first.run_id], notes)
        except KeyboardInterrupt:
            for claim in self._let_go():
                self.store.release(claim)
        except StaleClaimError as error:
            self._let_go()
            _print_error(f"{describe_run(first.run)}: {error}")
        except FleetOutOfMemoryError:
            for claim in self._let_go():
                self._execute(claim, alone=True, notes=(FLEET_OUT_OF_MEMORY_NOTE,))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 (the edge: one run's defect stops no other)
            self._end(self._let_go() or [first], error)

    def _train_together(self, first: Claim) -> None:
        claims = list(self.in_hand.values())
        with self.stop.interruptible():
            self.executor.execute_fleet(
                claims, lambda limit: self._claim_more(first, limit), self._finish
            )
        self._let_go()  # of runs that another worker has taken

    def _execute_alone(self, claim: Claim, notes: tuple[str, ...]) -> None:
        halvings = int(self.store.get_setting(f"{HALVE_PREFIX}{claim.run_id}") or 0)
        if left_fleet := self.store.get_setting(f"{ALONE_PREFIX}{claim.run_id}"):
            notes = (*notes, left_fleet)
        with self.stop.interruptible():
            outcome = self.executor.execute(claim, halvings)
        if notes:
            outcome.result["notes"] = [*outcome.result.get("notes", []), *notes]
        self._finish(claim, outcome)

    def _claim_more(self, first: Claim, limit: int) -> list[Claim]:
        """Claim at most so many runs that train with the first one."""
        if limit < 1 or self.stop.requested:
            return []
        key = self.executor.fleet_key(first.run)
        excluded = list_solo_runs(self.store)

        def matches(run_id: str, run: Run) -> bool:
            eligible = run.stage != "cost" and run_id not in excluded
            return eligible and self.executor.fleet_key(run) == key

        with self.stop.deferred():
            claims = self.store.claim_matching(
                first.owner,
                self.study_hash,
                matches,
                limit=limit,
                workers=self.settings.workers,
                lease_seconds=first.lease_seconds,
            )
            return [self._hold(claim) for claim in claims]

    def _hold(self, claim: Claim) -> Claim:
        self.in_hand[claim.run_id] = self.leases.add(claim)
        return self.in_hand[claim.run_id]

    def _let_go(self) -> list[Claim]:
        """Renew no claim any longer; return those of runs that have not ended."""
        claims, self.in_hand = list(self.in_hand.values()), {}
        for claim in claims:
            self.leases.drop(claim.run_id)
        return claims

    def _finish(self, claim: Claim, outcome: Outcome) -> None:
        with self.stop.deferred():
            del self.in_hand[claim.run_id]
            self.leases.drop(claim.run_id)
            finish_run(self.store, self.study_hash, claim, outcome, _print_error)

    def _end(self, claims: Sequence[Claim], error: Exception) -> None:
        """Record what stopped runs, or give them back to train alone.

        Raises:
            DeviceLostError: this process has no GPU any more: each further run would fail.
        """
        lost = _is_device_lost(error)
        for claim in claims:
            if lost and len(claims) > 1:  # any may be the cause: alone, only that one fails
                self.store.set_setting(f"{ALONE_PREFIX}{claim.run_id}", DEVICE_LOST_NOTE)
                self.store.release(claim)
            else:
                self._fail(claim, error)
        if lost:
            raise DeviceLostError(
                "A CUDA error left this process without its GPU.", remedy="Another process goes on."
            ) from error

    def _fail(self, claim: Claim, error: Exception) -> None:
        """Record what stopped a run.

        Raises:
            StoreError: it was the disk, which is no fault of the run: it and its checkpoint stay.
        """
        if is_disk_error(error):
            raise StoreError(
                f"the disk is full or fails ({error}); the run and its last checkpoint stay.",
                where=describe_run(claim.run),
                remedy="Free some space; the same command continues.",
            ) from error
        trace = "".join(traceback.format_exception(error))
        _print_error(trace.rstrip("\n"))
        message = str(error)
        if not isinstance(error, ParetuneError):
            message = f"{type(error).__name__}: {error} {_format_place(error.__traceback__)}"
        measured = {"traceback": _escape_surrogates(trace)}
        try:
            self.store.fail(claim, "error", _escape_surrogates(message), measured)
        except StaleClaimError as stale:
            _print_error(f"{describe_run(claim.run)}: {stale}")


def _is_device_lost(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False  # nobody has used a GPU
    from paretune.training.recovery.out_of_memory import loses_device

    return loses_device(error)


def _format_place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"(at {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _escape_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _print_error(text: str) -> None:
    echo(text, error=True)


def main(arguments: Sequence[str], executor: RunExecutor | None = None) -> int:
    """Execute runs in this process; ``executor`` takes the place of training (for tests)."""
    folder, study_hash, text = Path(arguments[0]), arguments[1], arguments[2]
    settings = WorkerSettings.from_json(text)
    sanitise_tracebacks_and_warnings()
    limit_threads(settings.threads)
    stop = StopRequest(settings.parent)
    stop.install()
    if settings.parent is not None and not settings.fork:  # a process that is forked has no threads
        stop_when_orphaned(settings.parent)
    try:
        if settings.stages == ("cost",):
            return _measure_costs(folder, study_hash, settings, stop, executor)
        return _work(folder, study_hash, settings, stop, executor)
    except ParetuneError as error:
        _print_error(f"worker: {error}")
        return error.exit_code


def limit_threads(threads: int) -> None:
    """Set what libraries read once: to be called before torch or numpy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    # Two workspaces of a fixed size, without which cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _work(
    folder: Path,
    study_hash: str,
    settings: WorkerSettings,
    stop: StopRequest,
    executor: RunExecutor | None,
) -> int:
    executor = executor or make_executor(settings)
    with Store.open(folder) as store:
        run_worker(store, study_hash, executor, stop, settings)
    return 130 if stop.requested else 0


def _measure_costs(
    folder: Path,
    study_hash: str,
    settings: WorkerSettings,
    stop: StopRequest,
    executor: RunExecutor | None,
) -> int:
    """Each cost in a process of its own, and in none while another one measures."""
    owner = current_owner(identify_device(settings.device))

    def has_claimable_run() -> bool:
        with Store.open(folder) as store:
            statuses = store.load_statuses(study_hash, owner)
        return any(s.is_claimable and s.stage == "cost" for s in statuses)

    def execute_one() -> int:
        if settings.fork:
            stop.parent = None  # of this fork it is the process that is forked, and ends it
        try:
            return _work(folder, study_hash, replace(settings, limit=1), stop, executor)
        except ParetuneError as error:  # before a fork ends without a word
            _print_error(f"worker: {error}")
            return error.exit_code

    with hold_cost_lock(folder, stop):
        if settings.fork:
            return run_each_in_fork(has_claimable_run, execute_one, stop)
        return execute_one() if has_claimable_run() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
