"""How many worker processes train a study, on what devices: for ``plan`` and ``run``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.worker_count import WorkerCount
    from paretune.study import Run


class WorkerOptions(TypedDict, total=False):
    """How many processes train, on what.

    Attributes:
        workers: processes that train at once on each device; by default as many as cores and
            memory allow on a CPU, one on a GPU.
        threads: of each worker; 1 by default.
        devices: ``auto`` (the default: one GPU, or the CPU), ``all`` (every GPU), or names:
            ``cpu``, ``cuda``, ``cuda:0,cuda:2``. Costs are measured on the first.
        online: models and data may be downloaded from the hub.
    """

    workers: int | None
    threads: int
    devices: str
    online: bool


@dataclass(frozen=True)
class Workers:
    """The options with their defaults; ``devices`` are all here."""

    workers: int | None
    threads: int
    devices: tuple[str, ...]
    offline: bool

    @classmethod
    def resolve(cls, **options: Unpack[WorkerOptions]) -> Workers:
        """Fill in the defaults.

        Raises:
            StudyError: there is no such device.
            TypeError: an option that is none of :class:`WorkerOptions`.
        """
        from paretune.measuring.devices import resolve_devices

        if unknown := options.keys() - WorkerOptions.__annotations__.keys():
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
        return cls(
            workers=options.get("workers"),
            threads=options.get("threads", 1),
            devices=resolve_devices(options.get("devices", "auto")),
            offline=not options.get("online", False),
        )

    @property
    def device(self) -> str:
        """The device on which costs are measured, and whose precision and speed count."""
        return self.devices[0]

    def count(self, runs: Iterable[Run], predictor: CostPredictor) -> tuple[WorkerCount, ...]:
        """How many train at once on each device: what the user asks for, or what there is room for.

        Cost measurements run one after the other and do not count.
        """
        from paretune.planning.worker_count import choose_worker_count, worker_bytes

        needs = [
            worker_bytes(predictor.predict_peak_bytes(run)) for run in runs if run.stage != "cost"
        ]
        on_gpus = (self.workers or 1) * sum(device != "cpu" for device in self.devices)
        return tuple(
            choose_worker_count(needs, device, self.threads, self.workers, on_gpus)
            for device in self.devices
        )


def describe_devices(devices: Sequence[WorkerCount]) -> str:
    """``cpu``; of several, the workers of each: ``cuda:0 (2), cuda:1 (2)``."""
    if len(devices) == 1:
        return devices[0].device
    return ", ".join(f"{workers.device} ({workers.count})" for workers in devices)


def explain_worker_count(workers: WorkerCount) -> str:
    """One sentence on how memory limits the workers of a device; empty where it does not."""
    from paretune.reporting.text.formatting import format_bytes

    if workers.memory_bytes is None:
        return ""
    memory, most = format_bytes(workers.memory_bytes), format_bytes(workers.most_bytes)
    where = "" if workers.device == "cpu" else f" on {workers.device}"
    sentence = f"Memory for runs{where}: {memory}; the largest is predicted to need {most}"
    if workers.most_bytes > workers.memory_bytes:
        return f"{sentence}: it trains alone, and may not fit."
    if workers.count < workers.cores:
        return f"{sentence}, so {workers.count} train at once on {workers.cores} cores."
    if workers.count_fitting(workers.most_bytes) < workers.count:
        return f"{sentence}: runs wait while they would not fit beside others."
    return f"{sentence}."
