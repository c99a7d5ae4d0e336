"""The settings of a worker: one value, which goes from a user's options to the worker's process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from paretune.study import DEFAULT_COST_SECONDS

STAGES = ("tune", "final", "cost")


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of a worker that executes runs.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1`` ...; on a node of a cluster, ``cuda`` is the GPU that
            it gives to a task.
        threads: threads of the process; a cost is measured with all processors of its machine.
        stages: runs of other stages are left alone.
        limit: the worker ends after so many runs.
        wait: if no run is claimable, the worker waits for one until a stop is requested.
        workers: worker processes that share the runs.
        device_workers: number of workers that share the device and its memory; 0: as many as it
            has room for (:func:`~paretune.execution.memory_budget.fit_workers`).
        memory_bytes: memory of the runs of all workers of the device together; None: unlimited.
        keep_bytes: trained weights of a run are kept up to this size; None: of any size.
        cost_seconds: time for timing the steps of one cost.
        lease_seconds: how long a claim outlives a worker that nobody can prove dead.
        allow_commands: whether it may start the programs that a study file names.
        parent: the worker stops when the process with this id is no longer its parent.
    """

    device: str = "cpu"
    threads: int = 1
    stages: tuple[str, ...] = STAGES
    limit: int | None = None
    wait: bool = False
    workers: int = 1
    device_workers: int = 1
    memory_bytes: int | None = None
    keep_bytes: int | None = None
    cost_seconds: float = DEFAULT_COST_SECONDS
    lease_seconds: float = 60.0
    allow_commands: bool = False
    parent: int | None = None

    def count_fitting(self, run_bytes: int) -> int:
        """How many workers train runs of this size at once."""
        if self.memory_bytes is None:
            return self.device_workers
        return max(1, min(self.device_workers, self.memory_bytes // run_bytes))

    def to_json(self) -> str:
        """The last argument of a worker process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        return cls(**{**values, "stages": tuple(values["stages"])})


DEFAULT_SETTINGS = WorkerSettings()
