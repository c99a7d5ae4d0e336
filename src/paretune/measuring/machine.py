"""The machine: system, cores, memory, versions, devices, precisions, counters.

:func:`describe_machine` is what ``paretune doctor`` shows; :func:`describe_environment` is recorded
with each run, in ``measured``, never in a result.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from paretune.measuring import devices, energy
from paretune.measuring.memory import choose_counter
from paretune.measuring.processor import describe_processor, read_memory, read_processor_name
from paretune.measuring.speed import measure_bf16_speedup, measure_matmul_speed

RUN_PACKAGES = ("paretune", "torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn")
"""Packages whose versions a record has."""
PACKAGES = (
    *RUN_PACKAGES,
    "safetensors",
    "huggingface-hub",
    "scipy",
    "pyarrow",
    "pydantic",
    "bitsandbytes",
)
"""Packages whose version can change a result or a measurement."""


def describe_machine() -> dict[str, Any]:
    """Plain values (JSON) about this machine; imports torch.

    Returns:
        ``system``, ``python``, ``packages`` (name to version, None if not installed),
        ``processor``, ``memory`` (bytes) and ``torch``: ``threads``, ``devices``
        (:func:`list_devices`), ``bf16`` (of the best device: ``fast`` and ``reason``, which decide
        ``precision: auto``, ``min_width``, and ``speedup``, a timing) and ``speed``
        (:func:`~paretune.measuring.speed.measure_matmul_speed`).
    """
    import torch

    described = list_devices()
    best = str(described[0]["device"])
    fast, reason = devices.is_bf16_fast(best)
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: find_version(name) for name in PACKAGES},
        "processor": describe_processor(),
        "memory": read_memory(),
        "torch": {
            "threads": torch.get_num_threads(),
            "devices": described,
            "bf16": {
                "device": best,
                "fast": fast,
                "reason": reason,
                "min_width": devices.min_bf16_width(best),
                "speedup": measure_bf16_speedup(best),
            },
            "speed": measure_matmul_speed(),
        },
    }


def find_version(package: str) -> str | None:
    """The version of an installed package; None where it is not, or is run from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def list_devices() -> list[dict[str, Any]]:
    """Every device of this machine, best first; imports torch.

    Returns:
        Of each ``device``, ``name``, ``memory`` (bytes), ``native_bf16`` and ``reason``;
        ``tried`` (whether paretune was ever run on such a device), ``attention`` (by which code),
        and ``measures``: ``memory``, ``process_memory`` (not of a CPU, whose memory is that of the
        process) and ``energy``, each with ``counter``, or None and the ``reason``, as in a record.
    """
    import torch

    gpus = []
    if torch.cuda.is_available():
        gpus += [_describe_gpu(f"cuda:{number}") for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        measures = {
            "memory": _counter(choose_counter("mps").name),
            "process_memory": _counter("", "MPS tells no bytes of a process"),
            "energy": _counter("", "no energy counter is known for mps"),
        }
        gpus.append(_describe("mps", "Apple GPU", total, measures))
    zones, no_rapl = energy.find_rapl_zones()
    measures = {
        "memory": _counter(choose_counter("cpu").name),
        "energy": _counter(f"RAPL ({len(zones)} domains)", no_rapl),
    }
    cpu = _describe("cpu", read_processor_name(), read_memory()["total"] or 0, measures)
    return [*gpus, cpu]


def _describe_gpu(device: str) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(device)
    _, no_energy = devices.read_millijoules(str(properties.uuid))
    measures = {
        "memory": _counter("torch's CUDA allocator, allocated and reserved"),
        "process_memory": _counter("NVML", devices.why_nvml_unavailable()),
        "energy": _counter("NVML, all programs on the card", no_energy),
    }
    return _describe(device, properties.name, int(properties.total_memory), measures)


def _describe(device: str, name: str, memory: int, measures: dict[str, Any]) -> dict[str, Any]:
    from paretune.models.packing.varlen import describe_attention

    native, reason = devices.has_native_bf16(device)
    return {
        "device": device,
        "name": name,
        "memory": memory,
        "native_bf16": native,
        "reason": reason,
        "tried": device == "cpu",
        "attention": describe_attention(device),
        "measures": measures,
    }


def _counter(counter: str, missing: str = "") -> dict[str, str | None]:
    return {"counter": None if missing else counter, "reason": missing}


def describe_environment(device: str) -> dict[str, Any]:
    """Versions and hardware, as plain values: whether two runs may be compared depends on them.

    ``attention`` names torch's kernels, which round otherwise, where they are asked for.
    """
    import torch

    from paretune.models.packing import varlen

    by_torch = device.startswith("cuda") and varlen.is_requested()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": read_processor_name(),
        "threads": torch.get_num_threads(),
        "packages": {name: find_version(name) for name in RUN_PACKAGES},
        **describe_device(device),
        **({"attention": "torch"} if by_torch else {}),
    }


def describe_device(device: str) -> dict[str, str]:
    """The kind of a device and, of a GPU, the card's name: cards of one name measure alike."""
    kind = {"device": device.split(":")[0]}
    if device.startswith("cuda"):
        import torch

        return {**kind, "device_name": torch.cuda.get_device_name(device)}
    return kind
