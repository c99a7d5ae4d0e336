"""What a worker asks of whatever executes a run; the real one is training's ``execute_run``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from paretune.study import Run

Report = Callable[[dict[str, Any]], None]


class Outcome(Protocol):
    """What a run leaves; see :mod:`paretune.store.record` for the keys."""

    @property
    def result(self) -> dict[str, Any]:
        """What must come out the same when the run is repeated."""

    @property
    def measured(self) -> dict[str, Any]:
        """What belongs to this machine and moment."""

    @property
    def blobs(self) -> dict[str, bytes]:
        """Large values; the result names them by sha256."""


class Execute(Protocol):
    """What executes runs. Results such as diverged and out_of_memory are outcomes.

    An exception is an obstacle (ParetuneError) or a defect; the run is then recorded as failed.
    """

    def __call__(self, run: Run, *, checkpoint: Path, report: Report, halvings: int) -> Outcome:
        """Execute one run.

        Args:
            run: what to do.
            checkpoint: where the run's state lies and is to be kept.
            report: to be told ``step``, ``steps``, ``loss`` and at times ``note`` about every
                step; it raises where the run must not go on, and that must not be caught.
            halvings: how often the micro-batch is halved from the start, because the system
                killed earlier attempts for their memory.
        """


def real_executor(device: str, threads: int) -> Execute:
    """Training and the cost probe on ``device``; imports torch, and keeps models warm."""
    import torch

    from paretune.execution.probe import probe_run
    from paretune.training.execute import execute_run
    from paretune.training.workbench import Workbench

    torch.set_num_threads(threads)
    bench = Workbench()

    def execute(run: Run, *, checkpoint: Path, report: Report, halvings: int) -> Outcome:
        if run.stage == "cost":
            return probe_run(
                run, checkpoint=checkpoint, report=report, device=device, halvings=halvings
            )
        return execute_run(
            run,
            checkpoint=checkpoint,
            report=report,
            bench=bench,
            device=device,
            halvings=halvings,
        )

    return execute
