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
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.claims import Leases, fail_run, finish_run
from paretune.execution.cost_lock import hold_cost_lock
from paretune.execution.executor import POLL_SECONDS
from paretune.execution.fork_server import SERVE, serve
from paretune.execution.memory_budget import HALVE_PREFIX, MemoryBudget
from paretune.execution.progress import describe_run
from paretune.execution.signals import StopRequest, stop_when_orphaned
from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.files import is_disk_error
from paretune.measuring.devices import identify_device
from paretune.measuring.memory import release_memory, reuse_freed_memory
from paretune.measuring.processor import THREAD_VARIABLES
from paretune.owner import current_owner
from paretune.store import Claim, Store
from paretune.terminal import echo, flush_output, sanitise_tracebacks_and_warnings
from paretune.training import Outcome, TrainerOptions
from paretune.training.interruption import loses_device

if TYPE_CHECKING:
    from paretune.preparation import ProcessCache


@dataclass(frozen=True)
class RunExecutor:
    """Executes runs in this process, on one device, with models cached between runs.

    ``diverged`` and ``out_of_memory`` are outcomes. An exception is an obstacle (ParetuneError) or
    a defect, and the run is recorded as failed. An exception of ``claim.report`` must not be
    caught: the run has to stop.
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
        if claim.run.method.is_command:
            from paretune.execution.command import run_command

            return run_command(claim, self.caches, self.settings)
        from paretune.training.trainer import train_run

        reuse_freed_memory()
        return train_run(
            claim.run,
            checkpoint=claim.checkpoint,
            report=claim.report,
            caches=self.caches,
            options=TrainerOptions(self.settings.device, keep_bytes=self.settings.keep_bytes),
            halvings=halvings,
        )

    def release_memory(self) -> None:
        """Drop the cached model: others need the memory."""
        if self.caches.loaded:
            self.caches.drop_model()
            release_memory()


def make_executor(settings: WorkerSettings = DEFAULT_SETTINGS) -> RunExecutor:
    """An executor on the device of the settings; imports torch.

    Raises:
        ParetuneError: the device cannot be used, so no run is to be claimed.
    """
    import torch

    from paretune.preparation import ProcessCache

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
    claimed = 0
    owner = current_owner(identify_device(settings.device))
    with Leases(store, settings.lease_seconds, stop) as leases:
        while not stop.requested and (settings.limit is None or claimed < settings.limit):
            budget = MemoryBudget.load(store, settings.memory_bytes)
            may_refuse = budget.budget_bytes is not None or budget.isolated
            claim = store.claim(
                owner,
                study_hash,
                settings.stages,
                settings.lease_seconds,
                budget.admits if may_refuse else None,
            )
            if claim is None and settings.wait:
                if budget.has_refused:
                    executor.release_memory()  # others wait for what the cached model takes
                time.sleep(POLL_SECONDS)
                continue
            if claim is None:
                return
            claimed += 1
            # Renewed before the model is opened, which may take longer than a lease.
            claim = leases.add(claim)
            halvings = int(store.get_setting(f"{HALVE_PREFIX}{claim.run_id}") or 0)
            try:
                with stop.interruptible():
                    outcome = executor.execute(claim, halvings)
                with stop.deferred():
                    leases.drop(claim.run_id)
                    finish_run(store, study_hash, claim, outcome, _print_error)
            except KeyboardInterrupt:
                leases.drop(claim.run_id)
                store.release(claim)
            except StaleClaimError as error:
                leases.drop(claim.run_id)
                _print_error(f"{describe_run(claim.run)}: {error}")
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 (the edge: one run's defect stops no other)
                leases.drop(claim.run_id)
                record_failure(store, claim, error)


def record_failure(store: Store, claim: Claim, error: Exception) -> None:
    """Record what stopped a run.

    Raises:
        StoreError: it was the disk, which is no fault of the run: it and its checkpoint stay.
        DeviceLostError: this process has no GPU any more: each further run would fail.
    """
    # Nobody has used a GPU where torch was not imported.
    lost = "torch" in sys.modules and loses_device(error)
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
    fail_run(store, claim, "error", _escape_surrogates(message), measured, _print_error)
    if lost:
        raise DeviceLostError(
            "A CUDA error left this process without its GPU.", remedy="Another process goes on."
        ) from error


def _escape_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _print_error(text: str) -> None:
    echo(text, error=True)


def limit_threads(threads: int) -> None:
    """Set what libraries read once: to be called before torch or numpy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    # oneDNN keeps a kernel for every shape of a bf16 product; its usual 1,024 held 400 MiB beside
    # MiniLM. Training fills rows up, so that few shapes come again and again (dev/log.md).
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
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
    flush_output()
    # Freeing what the libraries hold takes a third of a second, and the process's end frees it too.
    os._exit(code)
