"""Chooses what trains a study: workers on the devices of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from paretune.execution.local import LocalExecutor
from paretune.execution.memory_budget import count_cores, fit_workers
from paretune.execution.worker_settings import STAGES, WorkerSettings
from paretune.measuring.costs import count_copies
from paretune.measuring.devices import query_gpu, resolve_devices
from paretune.measuring.processor import read_total_bytes
from paretune.methods.core.titles import title_of
from paretune.reporting.text.formatting import format_bytes
from paretune.study import Run
from paretune.terminal.plural import pluralise

if TYPE_CHECKING:
    from paretune.execution.executor import Executor
    from paretune.execution.fork_server import ForkServer
    from paretune.planning.predicted_cost import CostPredictor
    from paretune.planning.prepare import PreparedStudy

REMEDY = (
    "Train less of the model, hold it in less (quantisation: nf4, precision: bf16), take a "
    "smaller one, or a machine with more memory."
)


def resolve_workers(
    workers: int | None = None, threads: int = 1, devices: str = "auto"
) -> tuple[WorkerSettings, ...]:
    """The settings of the workers of each device; the first one measures costs.

    Raises:
        StudyError: there is no such device.
    """
    return tuple(
        WorkerSettings(device, threads, device_workers=workers or 0)
        for device in resolve_devices(devices)
    )


def describe_workers(
    devices: Sequence[WorkerSettings], executor: str = "local", address: str | None = None
) -> str:
    """How many workers, with what, in a few words; on several devices, those of each."""
    first = devices[0]
    each = f"with {pluralise(first.threads, 'thread')} each on"
    if executor == "local":
        count = sum(settings.device_workers for settings in devices)
        names = first.device
        if len(devices) > 1:
            names = ", ".join(f"{device.device} ({device.device_workers})" for device in devices)
        return f"{pluralise(count, 'worker')} {each} {names}"
    count = first.device_workers
    tasks = f"at most {pluralise(count, 'task')}" if count else "tasks"
    where = f" at {address}" if address else ""
    return f"{tasks} {each} {_kind(first)} of the Ray cluster{where}"


def explain_memory(devices: Sequence[WorkerSettings], run_bytes: Sequence[int]) -> tuple[str, ...]:
    """Say in sentences how memory limits the workers of each device.

    Args:
        run_bytes: memory of the workers of the coming runs.
    """
    largest = max(run_bytes, default=0)
    sentences = []
    for settings in devices:
        if settings.memory_bytes is None:
            continue
        where = "" if settings.device == "cpu" else f" on {settings.device}"
        sentence = (
            f"Memory for runs{where}: {format_bytes(settings.memory_bytes)}; the largest is "
            f"predicted to need {format_bytes(largest)}"
        )
        count = settings.device_workers
        cores = count_cores(settings, devices)
        if largest > settings.memory_bytes:
            sentences.append(f"{sentence}: it trains alone, and may not fit.")
        elif settings.device == "cpu" and count < cores:
            sentences.append(f"{sentence}, so {count} train at once on {cores} cores.")
        elif settings.count_fitting(largest) < count:
            sentences.append(f"{sentence}: runs wait while they would not fit beside others.")
        else:
            sentences.append(f"{sentence}.")
    return tuple(sentences)


def explain_too_large(
    runs: Iterable[Run], predictor: CostPredictor, workers: Sequence[WorkerSettings]
) -> list[str]:
    """A sentence with numbers for each model and method that cannot fit on the smallest device.

    A pass that is too large is split (:func:`~paretune.training.trainer.train_run`); weights,
    gradients, optimiser states and the best weights so far are there whatever a pass is.
    """
    total_bytes, device = min(
        (query_gpu(d).total_bytes if d.startswith("cuda") else read_total_bytes(), d)
        for d in (settings.device for settings in workers)
    )
    sentences: dict[tuple[str, str], str] = {}
    for run in runs:
        if not run.uses_model or (run.model.key, run.method.key) in sentences:
            continue
        held_bytes = predictor.predict_work(run).held_bytes
        if held_bytes > total_bytes:
            trained_bytes = 4 * predictor.describe_trained(run).updated
            copies = count_copies(run, predictor.device)
            parts = [f"weights {format_bytes(held_bytes - copies * trained_bytes)}"]
            if trained_bytes:
                trained = format_bytes(trained_bytes)
                parts.append(f"gradients {trained}, AdamW's two moments twice that")
            if trained_bytes and copies > 3:
                parts.append(f"the best weights so far {trained}")
            sentences[run.model.key, run.method.key] = (
                f"{title_of(run.method.key)} on {run.model.key} needs "
                f"{format_bytes(held_bytes)} ({', '.join(parts)}) before any activation, "
                f"and {device} has {format_bytes(total_bytes)}."
            )
    return list(sentences.values())


def fit_to_machine(
    coming: Iterable[Run], predictor: CostPredictor, settings: Sequence[WorkerSettings]
) -> tuple[tuple[WorkerSettings, ...], Sequence[int]]:
    """The workers of each device that the coming runs leave room for, and the bytes of these runs.

    Costs are not among them: they are measured alone.
    """
    training = [run for run in coming if run.stage != "cost"]
    run_bytes = [predictor.predict(run).worker_bytes for run in training]
    return fit_workers(settings, run_bytes), run_bytes


def choose_executor(
    prepared: PreparedStudy,
    devices: Sequence[WorkerSettings],
    cost_seconds: float,
    *,
    allow_commands: bool = False,
    executor: str = "local",
    address: str | None = None,
    server: ForkServer | None = None,
) -> Executor:
    """The executor of a study, whose data goes to the nodes of a cluster.

    Args:
        devices: the workers of each; of a cluster, as they were asked for.
        cost_seconds: for which each cost is timed at most; 0: costs are not measured, and those
            that an earlier call has asked for wait.
        allow_commands: whether workers may start the programs that the study names.
        server: that has begun to import what workers of this machine need.

    Raises:
        MissingDependencyError: ray is not installed.
    """
    devices = [
        replace(
            settings,
            stages=tuple(stage for stage in STAGES if cost_seconds or stage != "cost"),
            keep_bytes=prepared.study.protocol.keep_weights,
            cost_seconds=cost_seconds,
            allow_commands=allow_commands,
        )
        for settings in devices
    ]
    if executor == "local":
        return LocalExecutor(devices, server=server)
    from paretune.execution.ray import RayExecutor

    settings = devices[0]
    tasks = settings.device_workers or None
    settings = replace(settings, device=_kind(settings), device_workers=1)
    return RayExecutor(address, prepared.datasets, settings, tasks)


def _kind(settings: WorkerSettings) -> str:
    """``cpu`` or ``cuda``: which of its GPUs a node gives to a task is the node's choice."""
    return settings.device.partition(":")[0]
