"""A worker: claim a run, execute it, write what it left, and again.

``python -m paretune.execution.worker STORE STUDY_HASH SETTINGS`` is one, with
:class:`~paretune.execution.worker_settings.WorkerSettings` as JSON; with ``serve`` and a descriptor
it is a fork server (:mod:`paretune.execution.fork_server`). Exit codes: 0 nothing left to
claim (or the limit reached), 130 stopped (the run in hand was given back), 10 a CUDA error left
this process without its GPU (the run was recorded as failed), otherwise as in paretune.errors.

A run that fails is recorded as failed and the worker goes on.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.claims import Leases, claim_fleet, fail_run, finish_run
from paretune.execution.cost_lock import hold_cost_lock
from paretune.execution.executor import POLL_SECONDS
from paretune.execution.fork_server import SERVE, serve
from paretune.execution.memory_budget import (
    ALONE_PREFIX,
    HALVE_PREFIX,
    MemoryBudget,
    fleet_budget_bytes,
    list_solo_runs,
)
from paretune.execution.progress import describe_run
from paretune.execution.signals import StopRequest, stop_when_orphaned
from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.files import is_disk_error
from paretune.measuring.devices import identify_device
from paretune.measuring.memory import release_memory
from paretune.measuring.processor import THREAD_VARIABLES
from paretune.owner import current_owner
from paretune.store import Claim, Store
from paretune.study import Run
from paretune.terminal import echo, sanitise_tracebacks_and_warnings
from paretune.training import FleetOutOfMemoryError, Outcome, TrainerOptions
from paretune.training.interruption import loses_device

if TYPE_CHECKING:
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.training.caches import ProcessCache

FLEET_OUT_OF_MEMORY_NOTE = "its fleet did not fit in memory, so it was trained alone"
DEVICE_LOST_NOTE = "a CUDA error ended its fleet, so it was trained alone"


@dataclass(frozen=True)
class RunExecutor:
    """Executes runs in this process, on one device, with models cached between runs.

    ``diverged`` and ``out_of_memory`` are outcomes. An exception is an obstacle (ParetuneError) or
    a defect, and the run is recorded as failed. What ``claim.report`` raises must not be caught:
    the run has to stop.
    """

    settings: WorkerSettings
    caches: ProcessCache

    def execute(self, claim: Claim, halvings: int = 0) -> Outcome:
        """Train a run, or measure its cost.

        Args:
            claim: the run, its checkpoint, and the callback for ``step``, ``steps``, ``loss`` and
                at times ``note``.
            halvings: how often the micro-batch is halved from the start, after the system killed
                earlier attempts for their memory.
        """
        from paretune.execution.cost_probe import measure_cost

        if claim.run.stage == "cost":
            settings, datasets = self.settings, self.caches.datasets
            return measure_cost(claim, settings.device, halvings, settings.cost_seconds, datasets)
        from paretune.training.trainer import train_run

        return train_run(
            claim.run,
            checkpoint=claim.checkpoint,
            report=claim.report,
            caches=self.caches,
            options=self._options,
            halvings=halvings,
        )

    def fleet_key(self, run: Run) -> str:
        """Runs with the same key may train together: of one model, task and shape of batch."""
        from paretune.training.fleet import fleet_key

        return fleet_key(run)

    def fleet_capacity(self, run: Run, settings: WorkerSettings, budget_bytes: int) -> int:
        """How many runs like this one train together within ``budget_bytes`` beside the model.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
        """
        limit = settings.fleet_size
        size, pays = self._predictor.predict_fleet_size(run, limit, budget_bytes)
        return size if pays or settings.fleet_always else 1

    def execute_fleet(
        self,
        claims: Sequence[Claim],
        next_claims: Callable[[int], Sequence[Claim]],
        finish: Callable[[Claim, Outcome], None],
    ) -> None:
        """Train runs on one shared backbone, and further ones as places become free.

        Args:
            next_claims: called for at most so many further runs whenever some have ended.
            finish: given each run that has ended, with what it leaves. A run whose ``report``
                raises StaleClaimError ends without.

        Raises:
            FleetOutOfMemoryError: the runs that have not ended must go on alone.
        """
        from paretune.training.trainer import train_fleet

        train_fleet(claims, next_claims, finish, caches=self.caches, options=self._options)

    def release_memory(self) -> None:
        """Drop the cached model: others need the memory."""
        if self.caches.loaded:
            self.caches.drop_model()
            release_memory()

    @cached_property
    def _predictor(self) -> CostPredictor:
        from paretune.planning.predicted_cost import CostPredictor

        return CostPredictor(self.caches, device=self.settings.device)

    @property
    def _options(self) -> TrainerOptions:
        return TrainerOptions(self.settings.device, keep_bytes=self.settings.keep_bytes)


def make_executor(settings: WorkerSettings = DEFAULT_SETTINGS) -> RunExecutor:
    """An executor on the device of the settings; imports torch.

    Raises:
        ParetuneError: the device cannot be used, so no run is to be claimed.
    """
    import torch

    from paretune.training.caches import ProcessCache

    device = settings.device
    torch.set_num_threads(settings.threads)
    if device.startswith("cuda"):
        # Where a kernel has no deterministic form, it is used all the same, with a warning.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling new memory finds bugs, and costs a kernel each time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ParetuneError(f"{device} cannot be used: {reason}") from error
    return RunExecutor(settings, ProcessCache())


def run_worker(
    store: Store,
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
        _WorkerLoop(store, study_hash, executor, stop, settings, leases).run()


@dataclass
class _WorkerLoop:
    """``in_hand``: the claims of the runs that it executes now: one, or those of a fleet."""

    store: Store
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
            may_refuse = budget.budget_bytes is not None or budget.isolated
            claim = self.store.claim(
                owner,
                self.study_hash,
                settings.stages,
                settings.lease_seconds,
                budget.admits if may_refuse else None,
            )
            if claim is not None:
                claimed += 1
                may_join = settings.fleet_size > 1 and settings.limit is None
                is_solo = claim.run.stage == "cost" or claim.run_id in list_solo_runs(self.store)
                self._execute(claim, alone=is_solo or not may_join)
            elif settings.wait:
                if budget.has_refused:
                    self.executor.release_memory()  # others wait for what the cached model takes
                time.sleep(POLL_SECONDS)
            else:
                return

    def _execute(self, first: Claim, *, alone: bool, notes: tuple[str, ...] = ()) -> None:
        """Execute a run; unless alone, with those that can train with it."""
        self._hold(first)  # before the model is opened, which may take longer than a lease
        try:
            if not alone:
                workers, device = self.settings.device_workers, self.settings.device
                budget_bytes = fleet_budget_bytes(workers, device)
                capacity = self.executor.fleet_capacity(first.run, self.settings, budget_bytes)
                self._claim_more(first, capacity - 1)
            if len(self.in_hand) == 1:
                claim = self.in_hand[first.run_id]
                halvings = int(self.store.get_setting(f"{HALVE_PREFIX}{claim.run_id}") or 0)
                if left_fleet := self.store.get_setting(f"{ALONE_PREFIX}{claim.run_id}"):
                    notes = (*notes, left_fleet)
                with self.stop.interruptible():
                    outcome = self.executor.execute(claim, halvings)
                if notes:
                    outcome.result["notes"] = [*outcome.result.get("notes", []), *notes]
                self._finish(claim, outcome)
            else:
                with self.stop.interruptible():
                    self.executor.execute_fleet(
                        list(self.in_hand.values()),
                        lambda limit: self._claim_more(first, limit),
                        self._finish,
                    )
                self._let_go()  # of runs that another worker has taken
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

    def _claim_more(self, first: Claim, limit: int) -> list[Claim]:
        """Claim at most so many runs that train with the first one."""
        if limit < 1 or self.stop.requested:
            return []
        with self.stop.deferred():
            claims = claim_fleet(
                self.store,
                self.study_hash,
                first,
                self.executor.fleet_key,
                limit=limit,
                workers=self.settings.workers,
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
        lost = False
        if "torch" in sys.modules:  # otherwise nobody has used a GPU
            lost = loses_device(error)
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
            *_, last = traceback.extract_tb(error.__traceback__)
            place = f"(at {Path(last.filename).name}:{last.lineno})"
            message = f"{type(error).__name__}: {error} {place}"
        measured = {"traceback": _escape_surrogates(trace)}
        fail_run(self.store, claim, "error", _escape_surrogates(message), measured, _print_error)


def _escape_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _print_error(text: str) -> None:
    echo(text, error=True)


def limit_threads(threads: int) -> None:
    """Set what libraries read once: to be called before torch or numpy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    # oneDNN keeps a kernel for every shape of a bf16 product, and each step has new ones: its usual
    # 1,024 held 400 MiB beside MiniLM, at no other speed (dev/log.md).
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    # Two workspaces of a fixed size, without which cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def main(arguments: Sequence[str], executor: RunExecutor | None = None) -> int:
    """Execute runs in this process; ``executor`` takes the place of training (for tests).

    No cost is measured while another worker measures one. A fork server goes on here in each
    worker that it forks.
    """
    sanitise_tracebacks_and_warnings()
    forked = None
    if arguments[0] == SERVE:
        limit_threads(1)  # no pool of threads may begin before a fork
        forked = serve(int(arguments[1]))
        if forked is None:
            return 0
    folder, study_hash, text = forked or arguments
    settings = WorkerSettings.from_json(text)
    limit_threads(settings.threads)
    if forked:  # the libraries have read the variables already
        threadpool_limits(settings.threads)
    stop = StopRequest(settings.parent)
    stop.install()
    if settings.parent is not None:
        stop_when_orphaned(settings.parent)
    measures = settings.stages == ("cost",)
    try:
        lock = hold_cost_lock(Path(folder), stop) if measures else nullcontext()
        with lock, Store.open(Path(folder)) as store:
            owner = current_owner(identify_device(settings.device))
            costs = [s for s in store.load_statuses(study_hash, owner) if s.stage == "cost"]
            is_needed = not measures or any(status.is_claimable for status in costs)
            if is_needed and not stop.requested:
                chosen = executor or make_executor(settings)
                run_worker(store, study_hash, chosen, stop, settings)
    except ParetuneError as error:
        _print_error(f"worker: {error}")
        return error.exit_code
    return 130 if stop.requested else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Freeing what the libraries hold takes a third of a second, and the process's end frees it too.
    os._exit(code)
