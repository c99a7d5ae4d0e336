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
from paretune.execution.apart import each_apart
from paretune.execution.contradicted import again
from paretune.execution.executor import Execute, Fleets, TooMuchError, real_executor
from paretune.execution.fleet import ALONE, APART, LOST_DEVICE, Asked, Crewed, alone
from paretune.execution.lease import Lease
from paretune.execution.room import BY_ITSELF, Room
from paretune.execution.stop import Stop, stop_without
from paretune.execution.wording import described
from paretune.store import Claim, Store
from paretune.store.owner import this_owner
from paretune.study import COST_SECONDS
from paretune.terminal import clean_tracebacks_and_warnings, say

IDLE_SECONDS = 0.25
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(
    arguments: Sequence[str] | None = None,
    execute: Execute | None = None,
    fleets: Fleets | None = None,
) -> int:
    """The worker's command line; ``execute`` and ``fleets`` replace training (for tests)."""
    options = _parser().parse_args(arguments)
    clean_tracebacks_and_warnings()
    # Before torch or numpy is imported: they read these once.
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(options.threads)
    # The tokenizers' own thread pool follows another variable.
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    # Two workspaces of a fixed size, without which cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    stop = Stop()
    stop.install()
    if options.apart:
        return _each_apart(options, stop, execute)
    if options.parent is not None:
        stop_without(options.parent)
    return _work(options, stop, execute, fleets)


def _each_apart(options: argparse.Namespace, stop: Stop, execute: Execute | None) -> int:
    """Each run in a copy of this process, which holds the claims of all."""
    owner = this_owner()

    def waiting() -> bool:
        with Store.open(options.store) as store:
            states = store.states(options.study)
        return any(state.free and state.stage in options.stages for state in states)

    starter = os.getpid()

    def one() -> int:
        options.limit = 1
        stop_without(starter)
        return _work(options, stop, execute, None, owner)

    try:
        return each_apart(waiting, one, stop, options.parent)
    except ParetuneError as error:
        _tell(f"worker: {error}")
        return error.exit_code


def _work(
    options: argparse.Namespace,
    stop: Stop,
    execute: Execute | None,
    fleets: Fleets | None,
    owner: str | None = None,
) -> int:
    try:
        if execute is None:
            execute = fleets = real_executor(
                options.device, options.threads, options.keep, options.cost_seconds
            )
        with Store.open(options.store) as store:
            work(
                store,
                options.study,
                execute,
                stop=stop,
                stages=options.stages,
                limit=options.limit,
                wait=options.wait,
                lease_seconds=options.lease,
                fleets=fleets,
                asked=Asked(options.fleet, options.workers, options.always, options.device),
                owner=owner,
                memory_bytes=options.memory,
            )
    except ParetuneError as error:
        _tell(f"worker: {error}")
        return error.exit_code
    return 130 if stop.asked else 0


def work(
    store: Store,
    study_hash: str,
    execute: Execute,
    *,
    stop: Stop,
    stages: tuple[str, ...] | None = None,
    limit: int | None = None,
    wait: bool = False,
    lease_seconds: float = 60.0,
    fleets: Fleets | None = None,
    asked: Asked = ALONE,
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
        memory_bytes: what the runs of all workers may take together (paretune.execution.room).

    Raises:
        StoreError: the store cannot be used any more.
        DeviceLostError: a CUDA error ended what this process can do.
    """
    claimed = 0
    while not stop.asked and (limit is None or claimed < limit):
        room = Room.of(store, memory_bytes)
        me = owner or this_owner()
        claim = store.claim(me, study_hash, stages, lease_seconds, room.admits)
        if claim is not None:
            claimed += 1
            if fleets is not None and _joins(store, claim, asked, limit):
                crewed = Crewed(store, study_hash, fleets, asked, stop, _tell)
                _execute_together(store, claim, crewed, execute, stop)
            else:
                _execute_claimed(store, claim, execute, stop, study_hash)
        elif wait:
            if room.refused and fleets is not None:
                fleets.rest()  # the model of the last run would take of what others wait for
            time.sleep(IDLE_SECONDS)
        else:
            return


def _joins(store: Store, claim: Claim, asked: Asked, limit: int | None) -> bool:
    """Whether the run may be one of several; one that was too large before may not."""
    if asked.most < 2 or limit is not None or claim.run.stage == "cost":
        return False
    return not any(store.setting(f"{why}{claim.run_id}") for why in ("halve/", "alone/", BY_ITSELF))


def _execute_together(
    store: Store, first: Claim, crewed: Crewed, execute: Execute, stop: Stop
) -> None:
    """Execute a run and those that go with it: in a fleet, or alone where there is none."""
    try:
        if crewed.gather(first) > 1:
            crewed.train()
            crewed.give_up()  # those that another worker has taken
            return
        claims = crewed.give_up()
    except KeyboardInterrupt:
        for claim in crewed.give_up():
            store.release(claim)
        return
    except TooMuchError:
        execute, claims = alone(execute, APART), crewed.give_up()
    except StoreError:
        crewed.give_up()
        raise
    except Exception as error:  # noqa: BLE001 (the edge, as of a single run)
        claims = crewed.give_up() or [first]
        lost = len(claims) > 1 and _loses_device(error)
        for claim in claims:
            if lost:  # any of them may be the cause: alone, only that one fails
                store.set_setting(f"alone/{claim.run_id}", LOST_DEVICE)
                store.release(claim)
            else:
                _fail(store, claim, error)
        _end_without_device(error)
        return
    for claim in claims:
        if stop.asked:
            store.release(claim)
        else:
            _execute_claimed(store, claim, execute, stop)


def _execute_claimed(
    store: Store, claim: Claim, execute: Execute, stop: Stop, study_hash: str = ""
) -> None:
    halvings = int(store.setting(f"halve/{claim.run_id}") or 0)
    left_fleet = store.setting(f"alone/{claim.run_id}")
    if left_fleet:
        execute = alone(execute, left_fleet)

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
        if claim.run.stage == "cost" and again(store, study_hash, claim, outcome):
            store.release(claim)
            return
        store.finish(claim, outcome.result, outcome.measured, outcome.blobs)
    except KeyboardInterrupt:
        store.release(claim)
    except StaleClaimError as error:
        _tell(f"worker: {described(claim.run)}: {error}")
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 (the edge: one run's defect must not stop the others)
        _fail(store, claim, error)
        _end_without_device(error)


def _loses_device(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False  # nobody has used a GPU
    from paretune.training.guards import loses_device

    return loses_device(error)


def _end_without_device(error: Exception) -> None:
    """After an error that leaves this process no GPU, end it: each further run would fail.

    Raises:
        DeviceLostError: it is such an error.
    """
    if _loses_device(error):
        raise DeviceLostError(
            "A CUDA error left this process without its GPU.", remedy="Another process goes on."
        ) from error


def _fail(store: Store, claim: Claim, error: Exception) -> None:
    story = "".join(traceback.format_exception(error))
    _tell(story.rstrip("\n"))
    if isinstance(error, ParetuneError):
        message = str(error)
    else:
        message = f"{type(error).__name__}: {error} {_place(error.__traceback__)}"
    try:
        store.fail(
            claim,
            "error",
            _text(message),
            {"traceback": _text(story)},
        )
    except StaleClaimError as stale:
        _tell(f"worker: {described(claim.run)}: {stale}")


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"(at {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _text(said: str) -> str:
    return said.encode(errors="backslashreplace").decode()


def _tell(text: str) -> None:
    say(text, error=True)


def _stages(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paretune.execution.worker", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of the store")
    parser.add_argument("study", help="hash of the study whose runs are executed")
    parser.add_argument("--stages", type=_stages, help="such as tune,final; all when left out")
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
        "--cost-seconds", type=float, default=COST_SECONDS, help="for timing the steps of a cost"
    )
    parser.add_argument("--wait", action="store_true", help="wait for runs until told to stop")
    parser.add_argument("--parent", type=int, help="stop when this is no longer the parent")
    return parser


if __name__ == "__main__":
    sys.exit(main())
