"""The machine: system, cores, memory, versions, devices, precisions, counters.

:func:`describe_machine` is shown by ``paretune doctor``; without ``devices=True`` it imports no
torch. :func:`describe_environment` is recorded with each run, in ``measured``, never in a result.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from paretune.measuring import energy, nvml
from paretune.measuring.auto_precision import (
    MIN_CPU_WIDTH,
    MIN_GPU_WIDTH,
    is_bf16_fast,
)
from paretune.measuring.counters import HighWaterMark, can_reset_high_water, choose_counter
from paretune.measuring.device_abilities import list_devices
from paretune.measuring.processor import describe_processor, read_memory, read_processor_name
from paretune.measuring.speed import measure_bf16_speedup, measure_matmul_speed

PACKAGES = (
    "paretune",
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "pydantic",
    "bitsandbytes",
)
"""Packages whose version can change a result or a measurement."""


def describe_machine(*, devices: bool = False) -> dict[str, Any]:
    """Plain values (JSON) about this machine.

    Args:
        devices: also import torch (seconds) and look at threads, accelerators and precisions.

    Returns:
        ``system``, ``python``, ``packages`` (name to version, None if not installed),
        ``describe_processor``, ``read_memory`` (bytes), ``counters`` (``cpu_memory``,
        ``cpu_energy``, ``cuda_energy``, ``cuda_process_memory``: each ``counter`` or None, and
        ``reason``); with ``devices`` also ``torch``: ``threads``, ``devices``
        (:func:`paretune.measuring.device_abilities.list_devices`),
        ``bf16`` (of the best device: ``fast`` and ``reason``, which decide ``precision: auto``,
        ``min_width``, and ``speedup``, a timing) and ``measure_matmul_speed``
        (:func:`measure_matmul_speed`).
    """
    machine: dict[str, Any] = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": list_versions(),
        "processor": describe_processor(),
        "memory": read_memory(),
        "counters": _describe_counters(),
    }
    if devices:
        machine["torch"] = _describe_torch()
    return machine


def list_versions() -> dict[str, str | None]:
    """Version of every package of :data:`PACKAGES`."""
    return {name: find_version(name) for name in PACKAGES}


def find_version(package: str) -> str | None:
    """The version of an installed package; None where it is not, or is run from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _describe_counters() -> dict[str, dict[str, str | None]]:
    marked = can_reset_high_water()
    zones, no_rapl = energy.find_rapl_zones()
    no_nvml = nvml.why_unavailable()
    return {
        "cpu_memory": {
            "counter": HighWaterMark.name if marked else choose_counter("cpu").name,
            "reason": "" if marked else "this system has no VmHWM that this process may reset",
        },
        "cpu_energy": {
            "counter": f"RAPL ({len(zones)} domains)" if zones else None,
            "reason": no_rapl,
        },
        "cuda_energy": {"counter": None if no_nvml else "NVML", "reason": no_nvml},
        "cuda_process_memory": {"counter": None if no_nvml else "NVML", "reason": no_nvml},
    }


def _describe_torch() -> dict[str, Any]:
    import torch

    devices = list_devices()
    best = str(devices[0]["device"])
    fast, reason = is_bf16_fast(best)
    return {
        "threads": torch.get_num_threads(),
        "devices": devices,
        "bf16": {
            "device": best,
            "fast": fast,
            "reason": reason,
            "min_width": MIN_GPU_WIDTH if best.startswith("cuda") else MIN_CPU_WIDTH,
            "speedup": measure_bf16_speedup(best),
        },
        "speed": measure_matmul_speed(),
    }


RUN_PACKAGES = ("paretune", "torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn")


def describe_environment(device: str) -> dict[str, Any]:
    """Versions and hardware, as plain values: whether two runs may be compared depends on them."""
    import torch

    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": read_processor_name(),
        "threads": torch.get_num_threads(),
        "packages": {name: find_version(name) for name in RUN_PACKAGES},
        **describe_device(device),
        **describe_attention(device),
    }


def describe_attention(device: str) -> dict[str, str]:
    """Torch's attention kernels, which round otherwise, where they are asked for; else nothing."""
    from paretune.models.packing import varlen

    requested = device.startswith("cuda") and varlen.is_requested()
    return {"attention": "torch"} if requested else {}


def describe_device(device: str) -> dict[str, str]:
    """The kind of a device and, of a GPU, the card's name: cards of one name measure alike."""
    kind = {"device": device.split(":")[0]}
    if device.startswith("cuda"):
        import torch

        return {**kind, "device_name": torch.cuda.get_device_name(device)}
    return kind
