"""A worker process: claim a run, execute it, write what it left, and again.

``python -m paretune.execution.worker STORE_FOLDER STUDY_HASH``; see ``--help``. A run that fails
is recorded as failed and the worker goes on. Exit codes: 0 nothing left to claim (or the limit
reached), 130 stopped (the run in hand was given back), 10 a CUDA error left this process without
its GPU (the run was recorded as failed), otherwise as in paretune.errors.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.costs.fork_server import run_each_in_fork
from paretune.execution.costs.repeat import needs_repeat
from paretune.execution.fleet_claims import (
    ALONE_PREFIX,
    HALVE_PREFIX,
    NO_FLEET_PREFIXES,
    ClaimedJob,
    FleetClaims,
)
from paretune.execution.memory_budget import MemoryBudget
from paretune.execution.progress.describe import describe_run
from paretune.execution.run_executor import (
    NO_FLEETS,
    FleetLimits,
    RunExecutor,
    make_training_executor,
)
from paretune.execution.signals import StopRequest, stop_when_orphaned
from paretune.store import Claim, Storage, Store
from paretune.store.owner import current_owner
from paretune.study import DEFAULT_COST_SECONDS
from paretune.terminal import echo, sanitise_tracebacks_and_warnings
from paretune.training.job import FleetOutOfMemoryError

IDLE_SECONDS = 0.25
FLEET_OUT_OF_MEMORY_NOTE = "its fleet did not fit in memory, so it was trained alone"
DEVICE_LOST_NOTE = "a CUDA error ended its fleet, so it was trained alone"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class WorkerOptions:
    """Which runs a worker executes, and until when.

    Attributes:
        stages: only runs of these stages; None for all.
        limit: at most so many runs.
        wait: where none is claimable, wait for one until a stop is requested, instead of returning.
        lease_seconds: how long a claim outlives a worker that nobody can prove dead.
        fleets: how many runs train together.
        owner: who holds the runs; this process by default.
        memory_bytes: what the runs of all workers may take together; None: no run waits for memory
            (:mod:`paretune.execution.memory_budget`).
    """

    stages: tuple[str, ...] | None = None
    limit: int | None = None
    wait: bool = False
    lease_seconds: float = 60.0
    fleets: FleetLimits = NO_FLEETS
    owner: str | None = None
    memory_bytes: int | None = None


def run_worker(
    store: Storage,
    study_hash: str,
    executor: RunExecutor,
    stop: StopRequest,
    options: WorkerOptions = WorkerOptions(),
) -> None:
    """Execute runs until none is left, the limit is reached, or a stop is requested.

    Args:
        store: opened by this thread.
        study_hash: whose runs.
        executor: what executes them.
        stop: checked between runs; interrupts a run.
        options: which runs, and until when.

    Raises:
        StoreError: the store cannot be used any more.
        DeviceLostError: a CUDA error ended what this process can do.
    """
    _Worker(store, study_hash, executor, stop, options).run()


@dataclass
class _Worker:
    store: Storage
    study_hash: str
    executor: RunExecutor
    stop: StopRequest
    options: WorkerOptions

    def run(self) -> None:
        options, claimed = self.options, 0
        owner = options.owner or current_owner()
        while not self.stop.requested and (options.limit is None or claimed < options.limit):
            budget = MemoryBudget.load(self.store, options.memory_bytes)
            claim = self.store.claim(
                owner, self.study_hash, options.stages, options.lease_seconds, budget.admits
            )
            if claim is not None:
                claimed += 1
                if self._may_join_fleet(claim):
                    self._execute_fleet(claim)
                else:
                    self._execute_alone(claim)
            elif options.wait:
                if budget.has_refused:
                    self.executor.release_memory()  # others wait for what the cached model takes
                time.sleep(IDLE_SECONDS)
            else:
                return

    def _may_join_fleet(self, claim: Claim) -> bool:
        """Whether the run may train with others; one that was too large before may not."""
        options = self.options
        if options.fleets.max_runs < 2 or options.limit is not None or claim.run.stage == "cost":
            return False
        keys = (f"{prefix}{claim.run_id}" for prefix in NO_FLEET_PREFIXES)
        return not any(self.store.get_setting(key) for key in keys)

    def _execute_fleet(self, first: Claim) -> None:
        """Execute a run and those that train with it; alone where there are none."""
        fleet = FleetClaims(
            self.store, self.study_hash, self.executor, self.options.fleets, self.stop, _print_error
        )
        notes: tuple[str, ...] = ()
        try:
            if fleet.gather(first) > 1:
                fleet.execute()
                fleet.stop_renewing()  # of runs that another worker has taken
                return
            claims = fleet.stop_renewing()
        except KeyboardInterrupt:
            for claim in fleet.stop_renewing():
                self.store.release(claim)
            return
        except FleetOutOfMemoryError:
            claims, notes = fleet.stop_renewing(), (FLEET_OUT_OF_MEMORY_NOTE,)
        except StoreError:
            fleet.stop_renewing()
            raise
        except Exception as error:  # noqa: BLE001 (the edge, as of a single run)
            self._end_fleet(fleet.stop_renewing() or [first], error)
            return
        for claim in claims:
            if self.stop.requested:
                self.store.release(claim)
            else:
                self._execute_alone(claim, notes)

    def _end_fleet(self, claims: Sequence[Claim], error: Exception) -> None:
        """Record what stopped a fleet of each of its runs, or give them back to train alone."""
        give_back = len(claims) > 1 and _is_device_lost(error)
        for claim in claims:
            if give_back:  # any of them may be the cause: alone, only that one fails
                self.store.set_setting(f"{ALONE_PREFIX}{claim.run_id}", DEVICE_LOST_NOTE)
                self.store.release(claim)
            else:
                self._fail(claim, error)
        _raise_if_device_lost(error)

    def _execute_alone(self, claim: Claim, notes: tuple[str, ...] = ()) -> None:
        halvings = int(self.store.get_setting(f"{HALVE_PREFIX}{claim.run_id}") or 0)
        if left_fleet := self.store.get_setting(f"{ALONE_PREFIX}{claim.run_id}"):
            notes = (*notes, left_fleet)
        try:
            with (
                ClaimedJob.of(self.store, claim, self.stop) as job,
                self.stop.interruptible(),
            ):
                outcome = self.executor.execute(job, halvings)
            if notes:
                outcome.result["notes"] = [*outcome.result.get("notes", []), *notes]
            if claim.run.stage == "cost" and needs_repeat(
                self.store, self.study_hash, claim, outcome
            ):
                self.store.release(claim)
                return
            self.store.finish(claim, outcome.result, outcome.measured, outcome.blobs)
        except KeyboardInterrupt:
            self.store.release(claim)
        except StaleClaimError as error:
            _print_error(f"worker: {describe_run(claim.run)}: {error}")
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 (the edge: one run's defect stops no other)
            self._fail(claim, error)
            _raise_if_device_lost(error)

    def _fail(self, claim: Claim, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        _print_error(trace.rstrip("\n"))
        if isinstance(error, ParetuneError):
            message = str(error)
        else:
            message = f"{type(error).__name__}: {error} {_format_place(error.__traceback__)}"
        measured = {"traceback": _escape_surrogates(trace)}
        try:
            self.store.fail(claim, "error", _escape_surrogates(message), measured)
        except StaleClaimError as stale:
            _print_error(f"worker: {describe_run(claim.run)}: {stale}")


def _is_device_lost(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False  # nobody has used a GPU
    from paretune.training.out_of_memory import loses_device

    return loses_device(error)


def _raise_if_device_lost(error: Exception) -> None:
    """After an error that leaves this process no GPU, end it: each further run would fail.

    Raises:
        DeviceLostError: it is such an error.
    """
    if _is_device_lost(error):
        raise DeviceLostError(
            "A CUDA error left this process without its GPU.", remedy="Another process goes on."
        ) from error


def _format_place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"(at {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _escape_surrogates(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _print_error(text: str) -> None:
    echo(text, error=True)


# The command line


def main(arguments: Sequence[str] | None = None, executor: RunExecutor | None = None) -> int:
    """The worker's command line; ``executor`` takes the place of training (for tests)."""
    options = _make_parser().parse_args(arguments)
    sanitise_tracebacks_and_warnings()
    # Before torch or numpy is imported: they read these once.
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(options.threads)
    # The tokenizers' own thread pool follows another variable.
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    # Two workspaces of a fixed size, without which cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    stop = StopRequest()
    stop.install()
    if options.apart:
        return _run_in_forks(options, stop, executor)
    if options.parent is not None:
        stop_when_orphaned(options.parent)
    return _run(options, stop, executor, _worker_options(options))


def _run_in_forks(
    options: argparse.Namespace, stop: StopRequest, executor: RunExecutor | None
) -> int:
    """Each run in a copy of this process, which holds the claims of all."""
    parent = os.getpid()
    one_run = replace(_worker_options(options), limit=1, owner=current_owner())

    def has_claimable_run() -> bool:
        with Store.open(options.store) as store:
            statuses = store.load_statuses(options.study)
        return any(s.is_claimable and s.stage in options.stages for s in statuses)

    def execute_one() -> int:
        stop_when_orphaned(parent)
        return _run(options, stop, executor, one_run)

    try:
        return run_each_in_fork(has_claimable_run, execute_one, stop, options.parent)
    except ParetuneError as error:
        _print_error(f"worker: {error}")
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
        _print_error(f"worker: {error}")
        return error.exit_code
    return 130 if stop.requested else 0


def _worker_options(options: argparse.Namespace) -> WorkerOptions:
    return WorkerOptions(
        stages=options.stages,
        limit=options.limit,
        wait=options.wait,
        lease_seconds=options.lease,
        fleets=FleetLimits(options.fleet, options.workers, options.always, options.device),
        memory_bytes=options.memory,
    )


def _parse_stages(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paretune.execution.worker", description=__doc__)
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
    parser.add_argument("--workers", type=int, default=1, help="workers that share runs and memory")
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
