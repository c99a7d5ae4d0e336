"""What can be computed and measured on each device of this machine; for ``paretune doctor``.

What cannot be measured has its reason, as in a record.
"""

from __future__ import annotations

from typing import Any

from paretune.measuring import energy, nvml
from paretune.measuring.auto_precision import has_native_bf16
from paretune.measuring.counters import HighWaterMark, can_reset_high_water, choose_counter
from paretune.measuring.processor import read_memory, read_processor_name

Counter = dict[str, str | None]
"""``counter``: what measures, or None; ``reason``: why not, or how well."""


def list_devices() -> list[dict[str, Any]]:
    """Every device of this machine, best first; imports torch.

    Returns:
        Of each ``device``, ``name``, ``memory`` (bytes), ``native_bf16`` and ``reason``;
        ``tried`` (whether paretune was ever run on such a device), ``attention`` (by which code),
        and ``measures``: ``memory``, ``process_memory`` (not of a CPU, whose memory is that of the
        process) and ``energy``, a counter each.
    """
    import torch

    devices = []
    if torch.cuda.is_available():
        numbers = range(torch.cuda.device_count())
        devices += [_describe_gpu(f"cuda:{number}") for number in numbers]
    if torch.backends.mps.is_available():
        devices.append(_describe_mps())
    return [*devices, _describe_cpu()]


def _describe_gpu(device: str) -> dict[str, Any]:
    import torch

    from paretune.models.packing.varlen import describe_attention

    properties = torch.cuda.get_device_properties(device)
    _, no_energy = nvml.read_millijoules(str(properties.uuid))
    no_process = nvml.why_unavailable()
    return {
        **_describe(device, properties.name, int(properties.total_memory)),
        "tried": False,
        "attention": describe_attention(device),
        "measures": {
            "memory": _make_counter("torch's CUDA allocator, allocated and reserved"),
            "process_memory": _make_counter("NVML", no_process),
            "energy": _make_counter("NVML, all programs on the card", no_energy),
        },
    }


def _describe_mps() -> dict[str, Any]:
    import torch

    return {
        **_describe("mps", "Apple GPU", int(torch.mps.recommended_max_memory())),
        "tried": False,
        "attention": "paretune's own",
        "measures": {
            "memory": _make_counter(choose_counter("mps").name),
            "process_memory": _make_counter("", "MPS tells no bytes of a process"),
            "energy": _make_counter("", "no energy counter is known for mps"),
        },
    }


def _describe_cpu() -> dict[str, Any]:
    zones, no_rapl = energy.find_rapl_zones()
    marked = can_reset_high_water()
    name = HighWaterMark.name if marked else choose_counter("cpu").name
    return {
        **_describe("cpu", read_processor_name(), read_memory()["total"] or 0),
        "tried": True,
        "attention": "paretune's own",
        "measures": {
            "memory": _make_counter(name),
            "energy": _make_counter(f"RAPL ({len(zones)} domains)", no_rapl),
        },
    }


def _describe(device: str, name: str, memory: int) -> dict[str, Any]:
    native, reason = has_native_bf16(device)
    return {
        "device": device,
        "name": name,
        "memory": memory,
        "native_bf16": native,
        "reason": reason,
    }


def _make_counter(counter: str, missing: str = "") -> Counter:
    return {"counter": None if missing else counter, "reason": missing}
