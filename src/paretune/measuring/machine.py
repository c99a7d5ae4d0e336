"""The machine: system, cores, memory, versions, devices, precisions, counters, and its speed.

:func:`describe_machine` is what ``paretune doctor`` shows; :func:`describe_environment` is recorded
with each run, in ``measured``, never in a result. Speeds are measured in under a second each.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from paretune.measuring import devices
from paretune.measuring.devices import has_native_bf16
from paretune.measuring.memory import choose_counter
from paretune.measuring.processor import (
    count_usable_cores,
    describe_processor,
    read_memory,
    read_processor_name,
)
from paretune.store.record import ComputeCost

if TYPE_CHECKING:
    import torch

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
        (:func:`~paretune.measuring.machine.measure_matmul_speed`).
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
        Each has ``device``, ``name``, ``memory`` (bytes), ``native_bf16`` and ``reason``;
        ``tried`` (whether paretune was ever run on such a device), and ``measures``: ``memory`` and
        ``process_memory`` (not of a CPU, whose memory is that of the process), each with
        ``counter``, or None and the ``reason``, as in a record.
    """
    import torch

    gpus = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = f"cuda:{number}"
        properties = torch.cuda.get_device_properties(device)
        measures = {
            "memory": _counter("torch's CUDA allocator, allocated and reserved"),
            "process_memory": _counter("NVML", devices.why_nvml_unavailable()),
        }
        total, name = int(properties.total_memory), properties.name
        gpus.append(_describe(device, name, total, measures))
    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        measures = {
            "memory": _counter(choose_counter("mps").name),
            "process_memory": _counter("", "MPS tells no bytes of a process"),
        }
        gpus.append(_describe("mps", "Apple GPU", total, measures))
    measures = {"memory": _counter(choose_counter("cpu").name)}
    cpu = _describe("cpu", read_processor_name(), read_memory()["total"] or 0, measures)
    return [*gpus, cpu]


def _describe(device: str, name: str, memory: int, measures: dict[str, Any]) -> dict[str, Any]:
    native, reason = devices.has_native_bf16(device)
    return {
        "device": device,
        "name": name,
        "memory": memory,
        "native_bf16": native,
        "reason": reason,
        "tried": device == "cpu",
        "measures": measures,
    }


def _counter(counter: str, missing: str = "") -> dict[str, str | None]:
    return {"counter": None if missing else counter, "reason": missing}


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
    }


def describe_device(device: str) -> dict[str, str]:
    """The kind of a device and, of a GPU, the card's name: cards of one name measure alike."""
    kind = {"device": device.split(":")[0]}
    if device.startswith("cuda"):
        import torch

        return {**kind, "device_name": torch.cuda.get_device_name(device)}
    return kind


TIMING_SECONDS = 0.12
"""Seconds spent on one measurement."""
PROBE_WIDTH, PROBE_TOKENS = 768, 512
"""Sizes of the matrices by which a CPU's speed is measured."""


@dataclass(frozen=True)
class MachineSpeed:
    """The speed of one worker on the CPU.

    Attributes:
        gigaflops: GFLOP/s of a matrix product, by requested precision.
        gigabytes_per_second: read and written by a product of fp32 vectors, number by number.
    """

    gigaflops: Mapping[str, float]
    gigabytes_per_second: float

    @classmethod
    def measure(cls, precisions: Iterable[str] = ("fp32", "bf16")) -> MachineSpeed:
        """Time products in these precisions, and memory, with one thread; a quarter of a second."""
        import torch

        # Where bf16 is not native it is emulated by products in fp32.
        bf16 = torch.bfloat16 if has_native_bf16("cpu")[0] else torch.float32
        dtypes = {"fp32": torch.float32, "bf16": bf16}
        chosen = {name: dtype for name, dtype in dtypes.items() if name in {*precisions}}
        with _use_threads(1):
            return cls(_time_products(chosen), _time_memory())

    def predict_step_seconds(self, work: ComputeCost, precision: str) -> float:
        """Products at their speed, and what lies between them at that of memory."""
        products = work.operations / (1e9 * self.gigaflops[precision])
        return products + work.moved_bytes / (1e9 * self.gigabytes_per_second)


def measure_bf16_speedup(device: str = "cpu") -> float | None:
    """How many times as fast a layer is in bf16 as in fp32; None without native bf16.

    Times a frozen linear layer of (512, 384) to 4 times the width as training meets it: fp32
    weights and inputs, under autocast or not, its casts included. The two take turns, so that a
    slow moment of the machine affects both; medians are compared. Nothing is decided by it.
    """
    import torch

    if not has_native_bf16(device)[0]:
        return None
    generator = torch.Generator().manual_seed(0)
    tokens_in = torch.randn(512, 384, generator=generator).to(device)
    weight = torch.randn(4 * 384, 384, generator=generator).to(device)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for round_ in range(11):
        for cast, timings in seconds.items():
            with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=cast):
                elapsed = time_once(partial(torch.nn.functional.linear, tokens_in, weight), device)
            if round_ >= 2:  # the first two prepare kernels
                timings.append(elapsed)
    return statistics.median(seconds[False]) / statistics.median(seconds[True])


def measure_matmul_speed(width: int = PROBE_WIDTH, tokens: int = PROBE_TOKENS) -> dict[str, Any]:
    """Matrix product speed of the CPU in GFLOP/s, with one thread and with all usable cores.

    Returns:
        ``fp32_one_thread``, ``fp32_all_threads``, ``bf16_one_thread``, ``bf16_all_threads``
        (absent where not native), ``gigabytes_per_second`` (read and written by a product of two
        (``tokens``, 2 ``width``) fp32 tensors number by number, one thread), ``threads`` (what
        "all" means), ``width``, and ``not_measured``. The number of threads torch uses is as before
        afterwards.
    """
    import torch

    all_threads = count_usable_cores()
    native, reason = has_native_bf16("cpu")
    speed: dict[str, Any] = {"threads": all_threads, "width": width, "not_measured": {}}
    dtypes = {"fp32": torch.float32}
    if native:
        dtypes["bf16"] = torch.bfloat16
    else:
        missing = ("bf16_one_thread", "bf16_all_threads")
        speed["not_measured"] = dict.fromkeys(missing, reason)
    for label, threads in (("one_thread", 1), ("all_threads", all_threads)):
        with _use_threads(threads):
            for name, gigaflops in _time_products(dtypes, width, tokens).items():
                speed[f"{name}_{label}"] = gigaflops
    with _use_threads(1):
        speed["gigabytes_per_second"] = _time_memory(width, tokens)
    return speed


def _time_products(
    dtypes: Mapping[str, torch.dtype], width: int = PROBE_WIDTH, tokens: int = PROBE_TOKENS
) -> dict[str, float]:
    """GFLOP/s of products of (``tokens``, ``width``) with (``width``, ``width``), by name."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left = torch.randn(tokens, width, generator=generator)
    right = torch.randn(width, width, generator=generator)
    speeds = {}
    for name, dtype in dtypes.items():
        seconds = _min_seconds(partial(torch.mm, left.to(dtype), right.to(dtype)))
        speeds[name] = 2 * tokens * width * width / seconds / 1e9
    return speeds


def _time_memory(width: int = PROBE_WIDTH, tokens: int = PROBE_TOKENS) -> float:
    """GB/s that a product of two (``tokens``, 2 ``width``) fp32 tensors reads and writes."""
    import torch

    a = torch.randn(tokens, 2 * width, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(a)
    seconds = _min_seconds(partial(torch.mul, a, a.clone(), out=out))
    return 3 * 4 * a.numel() / seconds / 1e9


@contextmanager
def _use_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _min_seconds(work: Callable[[], object]) -> float:
    """The least of several times: other work of the machine can only make one longer."""
    time_once(work, "cpu")
    seconds: list[float] = []
    ends = time.perf_counter() + TIMING_SECONDS
    while len(seconds) < 3 or time.perf_counter() < ends:
        seconds.append(time_once(work, "cpu"))
    return min(seconds)


def time_once(work: Callable[[], object], device: str) -> float:
    """Seconds of some work; on a GPU, until the device has done it."""
    _wait_for(device)
    begun = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - begun


def _wait_for(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()
