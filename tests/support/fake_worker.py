"""A worker whose runs are a chain of hashes with sleeps and a checkpoint; options say what else.

``steps``, ``sleep`` (seconds of a step), ``act`` (``raise``, ``obstacle``, ``die``, ``segfault``,
``nan``, ``halve``, ``sticky``: a CUDA error after which nothing works in this process), ``meet``
(wait until so many workers have begun a run) and ``hold`` (after the second step, wait for a file
``go`` beside the store), so that what a test looks for in the middle of a run is there however slow
the machine. Every start and end is a line of ``ledger.txt`` beside the store.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from threadpoolctl import threadpool_info

from paretune.errors import DataError
from paretune.execution import fork_server, worker
from paretune.execution.worker_settings import WorkerSettings
from paretune.store.record import Claim, Report
from paretune.study import Run
from paretune.training import Outcome

REAL_IMPORTS = "FAKE_WORKER_IMPORTS"
"""Set, a worker that is copied imports what real runs need, before it is: seconds for each."""


lost: list[int] = []
"""Seeds of the runs that took this process its GPU."""


def execute(run: Run, *, checkpoint: Path, report: Report, halvings: int) -> Outcome:
    options = run.method.options
    steps, act = options.get("steps", 4), options.get("act")
    note(checkpoint, f"start {run.stage} {run.seed} {os.getpid()} {halvings}")
    step, state = 0, f"{run.stage} {run.seed}"
    if checkpoint.exists():
        step, state = json.loads(checkpoint.read_text())
    resumed = {"resumed_at": step} if step else {}
    if act == "raise":
        raise ZeroDivisionError("a defect\udcff")
    if act == "sticky" or lost:
        lose_device(run.seed)
    if act == "obstacle":
        raise DataError("no such file.", where="train.csv", remedy="Look again.")
    if "meet" in options:
        wait_until(lambda: len(workers(checkpoint)) >= options["meet"], report, step)
    while step < steps:
        time.sleep(options.get("sleep", 0.001))
        state = hashlib.sha256(state.encode()).hexdigest()
        step += 1
        report({"step": step, "steps": steps, "loss": 1 / step, **resumed})
        if step == 2 and (act == "die" or (act == "halve" and halvings < options["needs"])):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 2 and act == "segfault":
            sys.stderr.write("a library crashed\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGSEGV)
        part = checkpoint.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps([step, state]))
        part.replace(checkpoint)
        if step == 2 and options.get("hold"):
            wait_until((checkpoint.parents[1] / "go").exists, report, step)
    result = {"outcome": "ok", "steps": steps, "scores": {"selection": {"primary": 0.5}}}
    if act == "nan":
        result["loss"] = float("nan")
    note(checkpoint, f"end {run.stage} {run.seed} {os.getpid()} {halvings}")
    measured = {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
    if __name__ == "__main__" and len(sys.argv) > 3:  # started, not forked
        measured["device"] = WorkerSettings.from_json(sys.argv[3]).device
    measured["frozen_objects"] = gc.get_freeze_count()
    measured["session"] = os.getsid(0)
    measured["pool_threads"] = [pool["num_threads"] for pool in threadpool_info()]
    return Outcome(result, measured, {"weights": state.encode() * 100})


class FakeExecutor:
    """Executes runs by :func:`execute`, each alone."""

    def execute(self, claim: Claim, halvings: int = 0) -> Outcome:
        checkpoint, report = claim.checkpoint, claim.report
        return execute(claim.run, checkpoint=checkpoint, report=report, halvings=halvings)

    def release_memory(self) -> None:
        pass


def lose_device(seed: int) -> None:
    """What torch raises at a device-side assertion, and at all that comes after it."""
    import torch

    lost.append(seed)
    accelerator = getattr(torch, "AcceleratorError", RuntimeError)
    raise accelerator(f"CUDA error: device-side assert triggered (run {lost[0]})")


def wait_until(condition: Callable[[], bool], report: Report, step: int) -> None:
    while not condition():
        time.sleep(0.01)
        report({"step": step})


def workers(checkpoint: Path) -> set[str]:
    """Processes that have begun a run."""
    lines = (checkpoint.parents[1] / "ledger.txt").read_text().splitlines()
    return {line.split()[3] for line in lines if line.startswith("start")}


def note(checkpoint: Path, line: str) -> None:
    with (checkpoint.parents[1] / "ledger.txt").open("a") as ledger:
        ledger.write(f"{line} {time.monotonic()}\n")


if __name__ == "__main__":
    if REAL_IMPORTS not in os.environ:
        fork_server.PRELOADED_MODULES = ()
    sys.exit(worker.main(sys.argv[1:], FakeExecutor()))
