"""What executes the runs of a study: worker processes here, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from paretune.errors import StudyError
from paretune.terminal.plural import pluralise
from paretune.verbs.workers import describe_devices

if TYPE_CHECKING:
    from paretune.execution.executor import Executor
    from paretune.execution.worker_settings import WorkerSettings
    from paretune.planning.prepare import PreparedStudy
    from paretune.study import Study

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class ExecutorChoice:
    """Which executor, and where it is.

    Attributes:
        name: ``local`` or ``ray``.
        address: ``HOST:PORT`` of a Ray cluster's head; None: the one of this machine.

    Raises:
        StudyError: no such executor, or an address without a cluster.
    """

    name: str = "local"
    address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in EXECUTORS:
            raise StudyError(
                f'no executor "{self.name}".',
                where="--executor",
                remedy=f"There are {' and '.join(EXECUTORS)}.",
            )
        if self.address is not None and self.name == "local":
            raise StudyError(
                "only a cluster has an address.", where="--address", remedy="Add --executor ray."
            )

    def describe(self, devices: Sequence[WorkerSettings]) -> str:
        """How many workers, with what, in a few words."""
        first = devices[0]
        each = f"with {pluralise(first.threads, 'thread')} each on"
        if self.name == "local":
            count = sum(settings.device_workers for settings in devices)
            return f"{pluralise(count, 'worker')} {each} {describe_devices(devices)}"
        count = first.device_workers
        at_most = f"at most {pluralise(count, 'task')}" if count else "tasks"
        where = f" at {self.address}" if self.address else ""
        return f"{at_most} {each} {_kind(first)} of the Ray cluster{where}"

    def make(
        self,
        study: Study,
        prepared: PreparedStudy,
        devices: Sequence[WorkerSettings],
        fleet: int | None,
    ) -> Executor:
        """The executor of a study, whose data goes to the nodes of a cluster.

        Args:
            devices: the workers of each; of a cluster, as they were asked for.
            fleet: runs that train together at most; None: where that is faster.

        Raises:
            MissingDependencyError: ray is not installed.
        """
        from paretune.execution.local import LocalExecutor
        from paretune.execution.worker_settings import DEFAULT_FLEET_SIZE, STAGES

        cost_seconds = study.protocol.cost_seconds
        devices = [
            replace(
                settings,
                # Costs that an earlier call has asked for wait until they are measured again.
                stages=tuple(stage for stage in STAGES if cost_seconds or stage != "cost"),
                fleet_size=DEFAULT_FLEET_SIZE if fleet is None else fleet,
                fleet_always=fleet is not None,
                keep_bytes=study.protocol.keep_weights,
                cost_seconds=cost_seconds,
            )
            for settings in devices
        ]
        if self.name == "local":
            return LocalExecutor(devices)
        from paretune.execution.cluster.executor import ClusterExecutor
        from paretune.execution.cluster.ray_cluster import open_ray
        from paretune.planning.inputs import collect_inputs

        tasks, settings = devices[0].device_workers or None, devices[0]
        settings = replace(settings, device=_kind(settings), device_workers=1)
        if fleet is None and settings.device != "cpu":
            settings = replace(settings, fleet_size=1)
        inputs, contents = collect_inputs(prepared)
        connect = partial(open_ray, self.address, contents=contents)
        return ClusterExecutor(connect, settings, inputs, tasks=tasks)


def _kind(settings: WorkerSettings) -> str:
    """``cpu`` or ``cuda``: which of its GPUs a node gives to a task is the node's choice."""
    return settings.device.partition(":")[0]
