"""How many worker processes train a study, on what devices: for ``plan`` and ``run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from paretune.execution.worker_settings import WorkerSettings


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


def resolve_workers(**options: Unpack[WorkerOptions]) -> tuple[WorkerSettings, ...]:
    """The settings of the workers of each device; the first one measures costs.

    Raises:
        StudyError: there is no such device.
        TypeError: an option that is none of :class:`WorkerOptions`.
    """
    from paretune.execution.worker_settings import WorkerSettings
    from paretune.measuring.devices import resolve_devices

    if unknown := options.keys() - WorkerOptions.__annotations__.keys():
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    count, threads = options.get("workers") or 0, options.get("threads", 1)
    return tuple(
        WorkerSettings(device, threads, device_workers=count)
        for device in resolve_devices(options.get("devices", "auto"))
    )


def describe_devices(devices: Sequence[WorkerSettings]) -> str:
    """``cpu``; of several, the workers of each: ``cuda:0 (2), cuda:1 (2)``."""
    if len(devices) == 1:
        return devices[0].device
    return ", ".join(f"{settings.device} ({settings.device_workers})" for settings in devices)


def explain_memory(devices: Sequence[WorkerSettings], run_bytes: Sequence[int]) -> tuple[str, ...]:
    """How memory limits the workers of each device, as sentences.

    Args:
        run_bytes: of the workers of the coming runs.
    """
    from paretune.execution.memory_budget import count_cores
    from paretune.reporting.text.formatting import format_bytes

    largest, sentences = max(run_bytes, default=0), []
    for settings in devices:
        if settings.memory_bytes is None:
            continue
        where = "" if settings.device == "cpu" else f" on {settings.device}"
        sentence = (
            f"Memory for runs{where}: {format_bytes(settings.memory_bytes)}; the largest is "
            f"predicted to need {format_bytes(largest)}"
        )
        count, cores = settings.device_workers, count_cores(settings, devices)
        if largest > settings.memory_bytes:
            sentences.append(f"{sentence}: it trains alone, and may not fit.")
        elif settings.device == "cpu" and count < cores:
            sentences.append(f"{sentence}, so {count} train at once on {cores} cores.")
        elif settings.count_fitting(largest) < count:
            sentences.append(f"{sentence}: runs wait while they would not fit beside others.")
        else:
            sentences.append(f"{sentence}.")
    return tuple(sentences)
