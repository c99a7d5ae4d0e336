"""Lets runs train side by side if they fit in memory together.

Cores limit the number of workers, and so does the memory of the smallest coming runs
(:func:`fit_workers`). The parent predicts the memory of a run before it is claimed and keeps it in
the store (``memory/RUN_ID``, bytes of its worker). A run that would not fit waits, whichever worker
asks for it; where nothing else runs, any run may start. A run that the system killed beside others
runs in isolation from then on (``by-itself/RUN_ID``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from paretune.execution.worker_settings import WorkerSettings
from paretune.measuring.devices import query_gpu
from paretune.measuring.processor import count_usable_cores, read_available_bytes
from paretune.store import Store

MEMORY_PREFIX = "memory/"
"""A setting of the store for each run: bytes of the worker that trains it."""
ISOLATED_PREFIX = "by-itself/"
"""A setting of the store for each run that was killed beside others: beside how many."""
HALVE_PREFIX = "halve/"
"""A setting of the store for each run: how often its micro-batch is halved."""
DEFAULT_RUN_BYTES = 2 * 2**30
"""Assumed need of a run without a prediction."""
MEMORY_SHARE = 3 / 4
"""Runs get this share of the free memory; the rest is for errors of the prediction
(docs/how-it-works/measuring.md)."""


def fit_workers(
    devices: Sequence[WorkerSettings], run_bytes: Sequence[int]
) -> tuple[WorkerSettings, ...]:
    """Choose how many workers train on each device, where the user does not say, and their memory.

    A CPU gets one for each core, if so many of the smallest runs fit in memory, and a GPU gets one.
    Several workers that a user asks for share the memory of a GPU, but have no limit on a CPU.

    Args:
        run_bytes: memory of the workers of the coming runs.
    """
    needs, fitted = sorted(run_bytes), []
    for settings in devices:
        count, memory_bytes = settings.device_workers or 1, None
        if settings.device.startswith("cuda") and count > 1 and needs:
            memory_bytes = int(MEMORY_SHARE * query_gpu(settings.device).free_bytes)
        elif settings.device == "cpu" and not settings.device_workers:
            count = cores = count_cores(settings, devices)
            if needs:
                memory_bytes = int(MEMORY_SHARE * read_available_bytes())
                fitting = sum(total <= memory_bytes for total in accumulate(needs))
                count = cores if fitting == len(needs) else min(cores, max(1, fitting))
        fitted.append(replace(settings, device_workers=count, memory_bytes=memory_bytes))
    return tuple(fitted)


def count_cores(settings: WorkerSettings, devices: Iterable[WorkerSettings]) -> int:
    """Workers for which the CPU has cores, beside those that GPUs need."""
    on_gpus = sum(max(1, device.device_workers) for device in devices if device.device != "cpu")
    return max(1, (count_usable_cores() - on_gpus) // settings.threads)


@dataclass
class MemoryBudget:
    """Memory for the runs of all workers.

    Attributes:
        budget_bytes: memory of all; None: unlimited, since the user chose the number of workers.
        run_bytes: predicted need of a run's worker, by run id.
        isolated: ids of runs that run with nothing beside them.
        has_refused: whether a run was refused since this was loaded.
    """

    budget_bytes: int | None
    run_bytes: Mapping[str, int] = field(default_factory=dict)
    isolated: frozenset[str] = frozenset()
    has_refused: bool = False

    @classmethod
    def load(cls, store: Store, budget_bytes: int | None) -> MemoryBudget:
        """Read the needs of runs from the store."""
        needs = store.get_settings(MEMORY_PREFIX) if budget_bytes is not None else {}
        return cls(
            budget_bytes,
            {run_id: int(value) for run_id, value in needs.items()},
            frozenset(store.get_settings(ISOLATED_PREFIX)),
        )

    def admits(self, run_id: str, running: Sequence[str]) -> bool:
        """Whether a run fits beside those that run now."""
        if not running:
            return True
        fits = not self.isolated & {run_id, *running}
        if fits and self.budget_bytes is not None:
            used_bytes = sum(self._need(neighbour) for neighbour in running)
            fits = used_bytes + self._need(run_id) <= self.budget_bytes
        self.has_refused |= not fits
        return fits

    def _need(self, run_id: str) -> int:
        return self.run_bytes.get(run_id, DEFAULT_RUN_BYTES)
