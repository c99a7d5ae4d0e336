"""What a worker process asks to execute the runs that it has claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paretune.errors import ParetuneError
from paretune.execution.worker_settings import DEFAULT_SETTINGS, WorkerSettings
from paretune.store import Claim
from paretune.study import Run
from paretune.training.runs.outcome import Outcome

if TYPE_CHECKING:
    from paretune.training.caches import ProcessCache
    from paretune.training.trainer import Trainer


@dataclass(frozen=True)
class RunExecutor:
    """Executes runs in this process, on one device, with models cached between runs.

    ``diverged`` and ``out_of_memory`` are outcomes. An exception is an obstacle (ParetuneError) or
    a defect, and the run is recorded as failed. What ``claim.report`` raises must not be caught:
    the run has to stop.
    """

    settings: WorkerSettings
    caches: ProcessCache
    _capacities: dict[str, int] = field(default_factory=dict)

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
            return measure_cost(claim, self.settings.device, halvings, self.settings.cost_seconds)
        return self._make_trainer().train_run(claim, halvings)

    def fleet_key(self, run: Run) -> str:
        """Runs with the same key may train together: of one model, task and shape of batch."""
        from paretune.training.fleet import fleet_key

        return fleet_key(run)

    def fleet_capacity(self, run: Run, settings: WorkerSettings, budget_bytes: int) -> int:
        """How many runs like this one train together within ``budget_bytes`` beside the model.

        Computed once for each key and method, since it opens the model.

        Raises:
            ParetuneError: the data, the model or the method cannot be used.
        """
        from paretune.training.fleet import count_slots, fleet_key

        key = f"{fleet_key(run)} {run.method.model_dump_json()}"
        if key not in self._capacities:
            self._capacities[key] = count_slots(
                run,
                self.caches,
                settings.device,
                settings.fleet_size,
                budget_bytes,
                where_it_pays=not settings.fleet_always,
            )
        return self._capacities[key]

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
        self._make_trainer().train_fleet(claims, next_claims, finish)

    def release_memory(self) -> None:
        """Drop the cached model: others need the memory."""
        if self.caches.loaded:
            from paretune.measuring.memory import release_memory

            self.caches.drop_model()
            release_memory()

    def _make_trainer(self) -> Trainer:
        from paretune.training.runs.outcome import TrainerOptions
        from paretune.training.trainer import Trainer

        settings = self.settings
        options = TrainerOptions(settings.device, keep_bytes=settings.keep_bytes)
        return Trainer(self.caches, options)


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
