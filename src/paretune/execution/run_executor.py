"""What a worker asks of whatever executes a run; the real one is training's ``execute_run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from paretune.errors import ParetuneError
from paretune.study import DEFAULT_COST_SECONDS, Run
from paretune.training.job import Job

ReportProgress = Callable[[dict[str, Any]], None]


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


class RunExecutor(Protocol):
    """What executes runs. Results such as diverged and out_of_memory are outcomes.

    An exception is an obstacle (ParetuneError) or a defect; the run is then recorded as failed.
    """

    def __call__(
        self, run: Run, *, checkpoint: Path, report: ReportProgress, halvings: int
    ) -> Outcome:
        """Execute one run.

        Args:
            run: what to do.
            checkpoint: where the run's state lies and is to be kept.
            report: to be told ``step``, ``steps``, ``loss`` and at times ``note`` about every
                step; it raises where the run must not go on, and that must not be caught.
            halvings: how often the micro-batch is halved from the start, because the system
                killed earlier attempts for their memory.
        """


class FleetOutOfMemoryError(Exception):
    """A fleet did not fit in memory. Its runs go on alone."""


class FleetExecutor(Protocol):
    """What trains several runs at once."""

    def kind(self, run: Run) -> str:
        """Runs of the same kind may train together."""

    def capacity(self, run: Run, most: int, budget_bytes: int, *, where_it_pays: bool) -> int:
        """How many like this one may, at most ``most``, holding ``budget_bytes`` beside the model.

        ``where_it_pays``: only where they are faster together.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
        """

    def release_memory(self) -> None:
        """Give back what is kept for further runs: others need the memory."""

    def train(
        self,
        jobs: Sequence[Job],
        more: Callable[[int], Sequence[Job]],
        finish: Callable[[Job, Outcome], None],
    ) -> None:
        """Train them, and as many more as seats become free.

        Args:
            jobs: the first ones.
            more: asked for at most so many further jobs when some have ended.
            finish: given each run that has ended and what it leaves. A job whose ``report`` raises
                StaleClaimError ends without.

        Raises:
            TooMuchError: memory ended.
        """


@dataclass(frozen=True)
class TrainingExecutor:
    """Training and the cost probe on a device, with models kept warm; and fleets."""

    device: str
    caches: Any
    keep_bytes: int | None = None
    cost_seconds: float = DEFAULT_COST_SECONDS
    _capacities: dict[str, int] = field(default_factory=dict)

    def __call__(
        self, run: Run, *, checkpoint: Path, report: ReportProgress, halvings: int
    ) -> Outcome:
        """As :class:`RunExecutor` says."""
        from paretune.execution.costs.cost_probe import measure_cost
        from paretune.training.trainer import train_run

        asked: dict[str, Any] = {"checkpoint": checkpoint, "report": report}
        asked |= {"device": self.device, "halvings": halvings}
        if run.stage == "cost":
            return measure_cost(run, limit_seconds=self.cost_seconds, **asked)
        return train_run(run, caches=self.caches, keep_bytes=self.keep_bytes, **asked)

    def kind(self, run: Run) -> str:
        """As :class:`FleetExecutor` says."""
        from paretune.training.fleet.capacity import fleet_key

        return fleet_key(run)

    def capacity(self, run: Run, most: int, budget_bytes: int, *, where_it_pays: bool) -> int:
        """As :class:`FleetExecutor` says; found once for each kind and method, since it takes a
        model.
        """
        from paretune.training.fleet.capacity import count_slots, fleet_key

        key = f"{fleet_key(run)} {run.method.model_dump_json()}"
        if key not in self._capacities:
            asked = (run, self.caches, self.device, most, budget_bytes)
            self._capacities[key] = count_slots(*asked, where_it_pays=where_it_pays)
        return self._capacities[key]

    def release_memory(self) -> None:
        """As :class:`FleetExecutor` says."""
        if self.caches.loaded:
            from paretune.measuring.memory import release_memory

            self.caches.drop_model()
            release_memory()

    def train(
        self,
        jobs: Sequence[Job],
        more: Callable[[int], Sequence[Job]],
        finish: Callable[[Job, Outcome], None],
    ) -> None:
        """As :class:`FleetExecutor` says."""
        from paretune.training.fleet.fleet_trainer import FleetTrainer
        from paretune.training.out_of_memory import is_out_of_memory

        try:
            fleet = FleetTrainer(self.caches, self.device, finish, keep_bytes=self.keep_bytes)
            fleet.train(jobs, more)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise FleetOutOfMemoryError from error
            raise


def make_training_executor(
    device: str,
    threads: int,
    keep_bytes: int | None = None,
    cost_seconds: float = DEFAULT_COST_SECONDS,
) -> TrainingExecutor:
    """Training on ``device``; imports torch.

    ``keep_bytes``: of trained weights, None for all. ``cost_seconds``: for timing the steps of one
    cost.

    Raises:
        ParetuneError: the device cannot be used, so no run is to be claimed.
    """
    import torch

    from paretune.training.caches import ProcessCache

    torch.set_num_threads(threads)
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
    return TrainingExecutor(device, ProcessCache(), keep_bytes, cost_seconds)
