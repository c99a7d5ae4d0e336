"""The worker process: ``python -m paretune.execution.worker_process STORE_FOLDER STUDY_HASH``.

See ``--help``. Exit codes: 0 nothing left to claim (or the limit reached), 130 stopped (the run in
hand was given back), 10 a CUDA error left this process without its GPU (the run was recorded as
failed), otherwise as in paretune.errors.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from paretune.errors import ParetuneError
from paretune.execution.costs.cost_lock import hold_cost_lock
from paretune.execution.costs.fork_server import run_each_in_fork
from paretune.execution.run_executor import FleetLimits, RunExecutor, make_training_executor
from paretune.execution.signals import StopRequest, stop_when_orphaned
from paretune.execution.worker import WorkerOptions, run_worker
from paretune.measuring.devices import identify_device
from paretune.measuring.processor import THREAD_VARIABLES
from paretune.owner import current_owner
from paretune.store import Store
from paretune.study import DEFAULT_COST_SECONDS
from paretune.terminal import echo, sanitise_tracebacks_and_warnings


def main(arguments: Sequence[str] | None = None, executor: RunExecutor | None = None) -> int:
    """The worker's command line; ``executor`` takes the place of training (for tests)."""
    options = _make_parser().parse_args(arguments)
    sanitise_tracebacks_and_warnings()
    limit_threads(options.threads)
    stop = StopRequest()
    stop.install()
    if options.parent is not None:
        stop.parent = options.parent
        if not options.apart:  # a process that is copied has no threads
            stop_when_orphaned(options.parent)
    if options.stages == ("cost",):
        return _measure_costs(options, stop, executor)
    return _run(options, stop, executor, _worker_options(options))


def limit_threads(threads: int) -> None:
    """Set what libraries read once: to be called before torch or numpy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    # Two workspaces of a fixed size, without which cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _measure_costs(
    options: argparse.Namespace, stop: StopRequest, executor: RunExecutor | None
) -> int:
    """Each cost in a process of its own, and in none while another one measures."""
    one_run = replace(_worker_options(options), limit=1)

    def has_claimable_run() -> bool:
        with Store.open(options.store) as store:
            statuses = store.load_statuses(options.study, one_run.owner)
        return any(s.is_claimable and s.stage == "cost" for s in statuses)

    def execute_one() -> int:
        if options.apart:
            stop.parent = None  # of this copy it is the process that is copied, and ends it
        return _run(options, stop, executor, one_run)

    try:
        with hold_cost_lock(options.store, stop):
            if options.apart:
                return run_each_in_fork(has_claimable_run, execute_one, stop)
            return execute_one() if has_claimable_run() else 0
    except ParetuneError as error:
        echo(f"worker: {error}", error=True)
        return error.exit_code


def _run(
    options: argparse.Namespace,
    stop: StopRequest,
    executor: RunExecutor | None,
    worker_options: WorkerOptions,
) -> int:
    try:
        if executor is None:
            executor = make_training_executor(
                options.device, options.threads, options.keep, options.cost_seconds
            )
        with Store.open(options.store) as store:
            run_worker(store, options.study, executor, stop, worker_options)
    except ParetuneError as error:
        echo(f"worker: {error}", error=True)
        return error.exit_code
    return 130 if stop.requested else 0


def _worker_options(options: argparse.Namespace) -> WorkerOptions:
    return WorkerOptions(
        stages=options.stages,
        limit=options.limit,
        wait=options.wait,
        lease_seconds=options.lease,
        fleets=FleetLimits(
            options.fleet,
            options.workers,
            options.always,
            options.device,
            options.device_workers,
        ),
        owner=current_owner(identify_device(options.device)),
        memory_bytes=options.memory,
    )


def _parse_stages(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paretune.execution.worker_process", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of the store")
    parser.add_argument("study", help="hash of the study whose runs are executed")
    parser.add_argument("--stages", type=_parse_stages, help="such as tune,final; default: all")
    parser.add_argument("--threads", type=int, default=1, help="threads of this process")
    parser.add_argument("--limit", type=int, help="end after so many runs")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--lease", type=float, default=60.0, help="seconds a claim holds")
    parser.add_argument("--apart", action="store_true", help="each run in a copy of this process")
    parser.add_argument("--fleet", type=int, default=1, help="runs that train together at most")
    parser.add_argument("--always", action="store_true", help="fleets also where they are slower")
    parser.add_argument("--workers", type=int, default=1, help="workers that share the runs")
    parser.add_argument(
        "--device-workers", type=int, help="those of them that share the device; default: all"
    )
    parser.add_argument("--keep", type=int, help="bytes of trained weights kept at most of a run")
    parser.add_argument("--memory", type=int, help="bytes for the runs of all workers together")
    parser.add_argument(
        "--cost-seconds",
        type=float,
        default=DEFAULT_COST_SECONDS,
        help="for timing the steps of a cost",
    )
    parser.add_argument("--wait", action="store_true", help="wait for runs until stopped")
    parser.add_argument("--parent", type=int, help="stop when this is no longer the parent")
    return parser


if __name__ == "__main__":
    sys.exit(main())
