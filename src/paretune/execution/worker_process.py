"""The worker process: ``python -m paretune.execution.worker_process STORE STUDY_HASH SETTINGS``.

``SETTINGS`` are :class:`~paretune.execution.worker_settings.WorkerSettings` as JSON. Exit codes: 0
nothing left to claim (or the limit reached), 130 stopped (the run in hand was given back), 10 a
CUDA error left this process without its GPU (the run was recorded as failed), otherwise as in
paretune.errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from paretune.errors import ParetuneError
from paretune.execution.costs.cost_lock import hold_cost_lock
from paretune.execution.costs.fork_server import run_each_in_fork
from paretune.execution.run_executor import RunExecutor, make_training_executor
from paretune.execution.signals import StopRequest, stop_when_orphaned
from paretune.execution.worker import run_worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import identify_device
from paretune.measuring.processor import THREAD_VARIABLES
from paretune.owner import current_owner
from paretune.store import Store
from paretune.terminal import echo, sanitise_tracebacks_and_warnings


def main(arguments: Sequence[str], executor: RunExecutor | None = None) -> int:
    """Execute runs; ``executor`` takes the place of training (for tests)."""
    folder, study_hash, text = arguments
    settings = WorkerSettings.from_json(text)
    sanitise_tracebacks_and_warnings()
    limit_threads(settings.threads)
    stop = StopRequest(settings.parent)
    stop.install()
    if settings.parent is not None and not settings.fork:  # a process that is forked has no threads
        stop_when_orphaned(settings.parent)
    work = _measure_costs if settings.stages == ("cost",) else _run
    try:
        return work(Path(folder), study_hash, settings, stop, executor)
    except ParetuneError as error:
        echo(f"worker: {error}", error=True)
        return error.exit_code


def limit_threads(threads: int) -> None:
    """Set what libraries read once: to be called before torch or numpy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    # Two workspaces of a fixed size, without which cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


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
            return _run(folder, study_hash, replace(settings, limit=1), stop, executor)
        except ParetuneError as error:  # before a fork ends without a word
            echo(f"worker: {error}", error=True)
            return error.exit_code

    with hold_cost_lock(folder, stop):
        if settings.fork:
            return run_each_in_fork(has_claimable_run, execute_one, stop)
        return execute_one() if has_claimable_run() else 0


def _run(
    folder: Path,
    study_hash: str,
    settings: WorkerSettings,
    stop: StopRequest,
    executor: RunExecutor | None,
) -> int:
    executor = executor or make_training_executor(settings)
    with Store.open(folder) as store:
        run_worker(store, study_hash, executor, stop, settings)
    return 130 if stop.requested else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
