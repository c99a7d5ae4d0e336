"""A worker process: claim a run, execute it, write what it left, and again.

``python -m paretune.execution.worker STORE_FOLDER STUDY_HASH``; see ``--help``. A run that fails
is recorded as failed and the worker goes on. Exit codes: 0 nothing left to claim (or the limit
reached), 130 told to stop (the run in hand was given back), 10 a CUDA error left this process
without its GPU (the run was recorded as failed), otherwise as in paretune.errors.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from paretune.errors import DeviceLostError, ParetuneError, StaleClaimError, StoreError
from paretune.execution.costs.fork_server import run_each_in_fork
from paretune.execution.costs.repeat import needs_repeat
from paretune.execution.fleet_claims import (
    DEVICE_LOST_NOTE,
    FLEET_OUT_OF_MEMORY_NOTE,
    NO_FLEETS,
    FleetClaims,
    FleetLimits,
    add_note,
)
from paretune.execution.lease import Lease
from paretune.execution.memory_budget import ISOLATED_PREFIX, MemoryBudget
from paretune.execution.progress.describe import describe_run
from paretune.execution.run_executor import (
    FleetExecutor,
    FleetOutOfMemoryError,
    RunExecutor,
    make_training_executor,
)
from paretune.execution.signals import StopRequest, stop_when_orphaned
from paretune.store import Claim, Store
from paretune.store.owner import current_owner
from paretune.study import DEFAULT_COST_SECONDS
from paretune.terminal import echo, sanitise_tracebacks_and_warnings

IDLE_SECONDS = 0.25
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(
    arguments: Sequence[str] | None = None,
    execute: RunExecutor | None = None,
    fleets: FleetExecutor | None = None,
) -> int:
    """The worker's command line; ``execute`` and ``fleets`` replace training (for tests)."""
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
        return _run_costs(options, stop, execute)
    if options.parent is not None:
        stop_when_orphaned(options.parent)
    return _run_worker(options, stop, execute, fleets)


def _run_costs(options: argparse.Namespace, stop: StopRequest, execute: RunExecutor | None) -> int:
    """Each run in a copy of this process, which holds the claims of all."""
    owner = current_owner()

    def waiting() -> bool:
        with Store.open(options.store) as store:
            states = store.load_statuses(options.study)
        return any(state.free and state.stage in options.stages for state in states)

    starter = os.getpid()

    def one() -> int:
        options.limit = 1
        stop_when_orphaned(starter)
        return _run_worker(options, stop, execute, None, owner)

    try:
        return run_each_in_fork(waiting, one, stop, options.parent)
    except ParetuneError as error:
        _print_error(f"worker: {error}")
        return error.exit_code


def _run_worker(
    options: argparse.Namespace,
    stop: StopRequest,
    execute: RunExecutor | None,
    fleets: FleetExecutor | None,
    owner: str | None = None,
) -> int:
    try:
        if execute is None:
            execute = fleets = make_training_executor(
                options.device, options.threads, options.keep, options.cost_seconds
            )
        with Store.open(options.store) as store:
            run_worker(
                store,
                options.study,
                execute,
                stop=stop,
                stages=options.stages,
                limit=options.limit,
                wait=options.wait,
                lease_seconds=options.lease,
                fleets=fleets,
                asked=FleetLimits(options.fleet, options.workers, options.always, options.device),
                owner=owner,
                memory_bytes=options.memory,
            )
    except ParetuneError as error:
        _print_error(f"worker: {error}")
        return error.exit_code
    return 130 if stop.asked else 0


def run_worker(
    store: Store,
    study_hash: str,
    execute: RunExecutor,
    *,
    stop: StopRequest,
    stages: tuple[str, ...] | None = None,
    limit: int | None = None,
    wait: bool = False,
    lease_seconds: float = 60.0,
    fleets: FleetExecutor | None = None,
    asked: FleetLimits = NO_FLEETS,
    owner: str | None = None,
    memory_bytes: int | None = None,
) -> None:
    """Execute runs until none is left, ``limit`` were claimed, or a stop is asked for.

    Args:
        store: opened by this thread.
        study_hash: whose runs.
        execute: what executes one run.
        stop: asked between runs, and interrupts a run.
        stages: only runs of these stages; None for all.
        limit: at most so many runs.
        wait: where none is free, wait for one until told to stop, instead of returning.
        lease_seconds: how long a claim outlives a worker that nobody can prove dead.
        fleets: what trains several runs at once; None: nothing does.
        asked: how many at once.
        owner: who holds the runs; this process by default.
        memory_bytes: what the runs of all workers may take together
        (paretune.execution.memory_budget).

    Raises:
        StoreError: the store cannot be used any more.
        DeviceLostError: a CUDA error ended what this process can do.
    """
    claimed = 0
    while not stop.asked and (limit is None or claimed < limit):
        room = MemoryBudget.of(store, memory_bytes)
        me = owner or current_owner()
        claim = store.claim(me, study_hash, stages, lease_seconds, room.admits)
        if claim is not None:
            claimed += 1
            if fleets is not None and _may_join_fleet(store, claim, asked, limit):
                crewed = FleetClaims(store, study_hash, fleets, asked, stop, _print_error)
                _execute_together(store, claim, crewed, execute, stop)
            else:
                _execute_claimed(store, claim, execute, stop, study_hash)
        elif wait:
            if room.has_refused and fleets is not None:
                fleets.release_memory()  # the model of the last run would take of what others wait for
            time.sleep(IDLE_SECONDS)
        else:
            return


def _may_join_fleet(store: Store, claim: Claim, asked: FleetLimits, limit: int | None) -> bool:
    """Whether the run may be one of several; one that was too large before may not."""
    if asked.max_runs < 2 or limit is not None or claim.run.stage == "cost":
        return False
    return not any(
        store.get_setting(f"{why}{claim.run_id}") for why in ("halve/", "alone/", ISOLATED_PREFIX)
    )


def _execute_together(
    store: Store, first: Claim, crewed: FleetClaims, execute: RunExecutor, stop: StopRequest
) -> None:
    """Execute a run and those that go with it: in a fleet, or alone where there is none."""
    try:
        if crewed.gather(first) > 1:
            crewed.train()
            crewed.stop_renewing()  # those that another worker has taken
            return
        claims = crewed.stop_renewing()
    except KeyboardInterrupt:
        for claim in crewed.stop_renewing():
            store.release(claim)
        return
    except FleetOutOfMemoryError:
        execute, claims = add_note(execute, FLEET_OUT_OF_MEMORY_NOTE), crewed.stop_renewing()
    except StoreError:
        crewed.stop_renewing()
        raise
    except Exception as error:  # noqa: BLE001 (the edge, as of a single run)
        claims = crewed.stop_renewing() or [first]
        lost = len(claims) > 1 and _is_device_lost(error)
        for claim in claims:
            if lost:  # any of them may be the cause: alone, only that one fails
                store.set_setting(f"alone/{claim.run_id}", DEVICE_LOST_NOTE)
                store.release(claim)
            else:
                _fail(store, claim, error)
        _raise_if_device_lost(error)
        return
    for claim in claims:
        if stop.asked:
            store.release(claim)
        else:
            _execute_claimed(store, claim, execute, stop)


def _execute_claimed(
    store: Store, claim: Claim, execute: RunExecutor, stop: StopRequest, study_hash: str = ""
) -> None:
    halvings = int(store.get_setting(f"halve/{claim.run_id}") or 0)
    left_fleet = store.get_setting(f"alone/{claim.run_id}")
    if left_fleet:
        execute = add_note(execute, left_fleet)

    def report(progress: dict[str, object]) -> None:
        stop.check()
        lease.report(progress)

    try:
        with Lease(store.folder, claim) as lease, stop.interruptible():
            outcome = execute(
                claim.run,
                checkpoint=store.checkpoint(claim.run_id),
                report=report,
                halvings=halvings,
            )
        if claim.run.stage == "cost" and needs_repeat(store, study_hash, claim, outcome):
            store.release(claim)
            return
        store.finish(claim, outcome.result, outcome.measured, outcome.blobs)
    except KeyboardInterrupt:
        store.release(claim)
    except StaleClaimError as error:
        _print_error(f"worker: {describe_run(claim.run)}: {error}")
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 (the edge: one run's defect must not stop the others)
        _fail(store, claim, error)
        _raise_if_device_lost(error)


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


def _fail(store: Store, claim: Claim, error: Exception) -> None:
    story = "".join(traceback.format_exception(error))
    _print_error(story.rstrip("\n"))
    if isinstance(error, ParetuneError):
        message = str(error)
    else:
        message = f"{type(error).__name__}: {error} {_format_place(error.__traceback__)}"
    try:
        store.fail(
            claim,
            "error",
            _escape_surrogates(message),
            {"traceback": _escape_surrogates(story)},
        )
    except StaleClaimError as stale:
        _print_error(f"worker: {describe_run(claim.run)}: {stale}")


def _format_place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"(at {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _escape_surrogates(said: str) -> str:
    return said.encode(errors="backslashreplace").decode()


def _print_error(text: str) -> None:
    echo(text, error=True)


def _parse_stages(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paretune.execution.worker", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of the store")
    parser.add_argument("study", help="hash of the study whose runs are executed")
    parser.add_argument(
        "--stages", type=_parse_stages, help="such as tune,final; all when left out"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of this process")
    parser.add_argument("--limit", type=int, help="end after so many runs")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--lease", type=float, default=60.0, help="seconds a claim holds")
    parser.add_argument("--apart", action="store_true", help="each run in a copy of this process")
    parser.add_argument("--fleet", type=int, default=1, help="at most so many runs at once")
    parser.add_argument("--always", action="store_true", help="fleets also where they do not pay")
    parser.add_argument("--workers", type=int, default=1, help="who share the runs and the memory")
    parser.add_argument("--keep", type=int, help="bytes of trained weights kept at most of a run")
    parser.add_argument("--memory", type=int, help="bytes for the runs of all workers together")
    parser.add_argument(
        "--cost-seconds",
        type=float,
        default=DEFAULT_COST_SECONDS,
        help="for timing the steps of a cost",
    )
    parser.add_argument("--wait", action="store_true", help="wait for runs until told to stop")
    parser.add_argument("--parent", type=int, help="stop when this is no longer the parent")
    return parser


if __name__ == "__main__":
    sys.exit(main())
