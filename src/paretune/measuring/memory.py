"""Peak memory of a run's phases, above what the process held before the model was loaded.

Counters of peaks: the kernel's high-water mark, a sampling thread, CUDA's allocator. Each reads the
bytes now (``read_bytes``), and the peak between ``start`` and ``stop``, which returns the measured
bytes (``peak_bytes`` among them) and reasons for absent ones. :func:`choose_counter` has the
counter of a device.

On CPU the number is growth of the resident set: libraries are in the baseline, weights that are
mapped from a file count once they are touched. Before the baseline and before each phase garbage
is collected and the C library is asked to give free pages back (``malloc_trim``): the phase then
starts from live objects alone. Where a cost is measured the default allocator works untouched, as
it does for every user.

Two processes of the same run agree to a few percent (``bench/memory_repeatability.py`` measures
it), provided that libraries have been warmed up before the baseline (:func:`warm_libraries`).
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from paretune.measuring.devices import read_process_bytes

SAMPLE_SECONDS = 0.002
"""Between two samples; shorter peaks can be missed, and the counter's name says so."""

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


class HighWaterMark:
    """Linux's own high-water mark of the resident set (``VmHWM``), which no peak escapes.

    Writing 5 to ``/proc/self/clear_refs`` lowers the mark to what is resident now.
    """

    name = "VmHWM (kernel high-water mark of the resident set, reset for each phase)"

    def read_bytes(self) -> int:
        """Resident bytes."""
        return read_status_bytes("VmRSS")

    def start(self) -> None:
        """Lower the mark to the present resident set."""
        CLEAR_REFS.write_text("5")

    def stop(self) -> tuple[dict[str, int], dict[str, str]]:
        """The mark."""
        return {"peak_bytes": read_status_bytes("VmHWM")}, {}


class SampledGauge:
    """A thread that reads a gauge every two milliseconds, where no counter can be reset."""

    def __init__(self, read: Callable[[], int], name: str) -> None:
        self.name = f"{name}, sampled every {SAMPLE_SECONDS * 1000:.0f} ms (short peaks can escape)"
        self.read_bytes = read

    def start(self) -> None:
        """Start the thread."""
        self._peak = self.read_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory sampler", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, self.read_bytes())

    def stop(self) -> tuple[dict[str, int], dict[str, str]]:
        """End the thread; the largest sample."""
        self._ended.set()
        self._thread.join()
        return {"peak_bytes": max(self._peak, self.read_bytes())}, {}


class CudaAllocator:
    """The peaks of torch's CUDA allocator, and what NVML says this process holds.

    ``peak_bytes`` is the allocated peak: the only one of the three that the allocator's caching
    does not blur. NVML has no peak, so the process is asked at the phase's end, when the
    cache still holds the phase's reserved peak.
    """

    name = "torch.cuda.max_memory_allocated (reset for each phase)"

    def __init__(self, device: str) -> None:
        self.device = device

    def read_bytes(self) -> int:
        """Allocated bytes."""
        import torch

        torch.cuda.synchronize(self.device)
        return int(torch.cuda.memory_allocated(self.device))

    def start(self) -> None:
        """Give cached blocks back, so that one phase's cache is not the next one's, and reset."""
        import torch

        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)

    def stop(self) -> tuple[dict[str, int], dict[str, str]]:
        """Allocated, reserved and process bytes."""
        import torch

        torch.cuda.synchronize(self.device)
        allocated = int(torch.cuda.max_memory_allocated(self.device))
        measured = {
            "peak_bytes": allocated,
            "allocated_peak_bytes": allocated,
            "reserved_peak_bytes": int(torch.cuda.max_memory_reserved(self.device)),
        }
        process, reason = read_process_bytes(
            str(torch.cuda.get_device_properties(self.device).uuid)
        )
        if process is None:
            return measured, {"process_bytes": reason}
        return {**measured, "process_bytes": process}, {}


def choose_counter(device: str) -> HighWaterMark | SampledGauge | CudaAllocator:
    """The best counter of ``device`` (``cpu``, ``cuda``, ``cuda:1``, ``mps``)."""
    if device.startswith("cuda"):
        return CudaAllocator(device)
    if device.startswith("mps"):
        import torch

        # The driver's count would hold what the phase before left in the cache.
        return SampledGauge(
            torch.mps.current_allocated_memory, "torch.mps.current_allocated_memory"
        )
    if can_reset_high_water():
        return HighWaterMark()
    return SampledGauge(read_resident_bytes, "resident set of the process (psutil)")


def can_reset_high_water() -> bool:
    """Whether this kernel has a high-water mark that this process may reset.

    Only looks: to try it would lower the mark of a phase that is being measured.
    """
    try:
        marked = "VmHWM:" in STATUS.read_text()
    except OSError:
        return False  # not Linux, or no /proc
    return marked and os.access(CLEAR_REFS, os.W_OK)


def read_status_bytes(field: str) -> int:
    """A line of ``/proc/self/status`` (``VmRSS``, ``VmHWM``), in bytes; OSError without it."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no line {field}")


def read_resident_bytes() -> int:
    """Resident set of this process."""
    return int(psutil.Process().memory_info().rss)


PHASES = ("load", "train", "evaluation")


class PeakMeter:
    """Peaks by phase.

    Use::

        warm_libraries()
        meter = PeakMeter("cpu")
        meter.baseline()
        with meter.phase("load"):
            model = ...
        with meter.phase("train"):
            ...
        meter.result()
    """

    def __init__(self, device: str = "cpu") -> None:
        self._counter = choose_counter(device)
        self._before = 0
        self._phases: dict[str, dict[str, int]] = {}
        self._missing: dict[str, str] = {}

    def baseline(self) -> None:
        """Read the memory of the process: after imports and before the model is loaded."""
        release_memory()
        self._before = self._counter.read_bytes()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure one of :data:`PHASES`; entered again, the larger peak counts.

        A phase that ends in an exception (out of memory) has the peak that it reached.
        """
        release_memory()
        self._counter.start()
        try:
            yield
        finally:
            measured, missing = self._counter.stop()
            growth = {**measured, "peak_bytes": measured["peak_bytes"] - self._before}
            if growth["peak_bytes"] <= 0:
                del growth["peak_bytes"]
                self._missing[f"phases.{name}.peak_bytes"] = (
                    "the phase stayed below what the process held before the model was loaded"
                )
            phase = self._phases.setdefault(name, {})
            for key, value in growth.items():
                phase[key] = max(value, phase.get(key, 0))
                self._missing.pop(f"phases.{name}.{key}", None)
            for key, reason in missing.items():
                if key not in phase:
                    self._missing[f"phases.{name}.{key}"] = reason

    def forget(self, *names: str) -> None:
        """Drop the peaks of phases that are repeated under other conditions."""
        for name in names:
            self._phases.pop(name, None)
            for key in [k for k in self._missing if k.startswith(f"phases.{name}.")]:
                del self._missing[key]

    def result(self) -> dict[str, Any]:
        """``phases`` (bytes by phase), ``peak_counter``, and ``not_measured`` with reasons."""
        never = {
            f"phases.{name}": "the run has no such phase"
            for name in PHASES
            if name not in self._phases
        }
        return {
            "phases": {name: dict(self._phases[name]) for name in PHASES if name in self._phases},
            "peak_counter": self._counter.name,
            "not_measured": {**never, **self._missing},
        }


def release_memory() -> bool:
    """Collect garbage and give free pages back; whether the C library has ``malloc_trim``."""
    gc.collect()
    return trim_heap()


def trim_heap() -> bool:
    """Give free pages back to the system; whether the C library has ``malloc_trim``."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False  # musl, macOS, Windows: there is no such call, and nothing to give back
    trim(0)
    return True


MALLOPT_TRIM_THRESHOLD = -1
MALLOPT_MMAP_THRESHOLD = -3
HEAP_BLOCK_BYTES = 32 * 2**20
"""Blocks up to this size come from the heap; the highest limit that glibc itself moves to."""
FREE_HEAP_BYTES = 2**30


def reuse_freed_memory() -> None:
    """Let glibc reuse up to a GiB of freed memory instead of giving it back; elsewhere nothing.

    A step of full fine-tuning frees all its gradients. By default their pages go back to the
    system, which fills them with zeros again in the next step: a tenth of the time (dev/log.md).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(MALLOPT_MMAP_THRESHOLD, HEAP_BLOCK_BYTES)
    mallopt(MALLOPT_TRIM_THRESHOLD, FREE_HEAP_BYTES)


MIN_HEAP_GROWTH_BYTES = 256 * 2**20


def trim_heap_if_grown(before_bytes: int) -> int:
    """Give the heap's free pages back where the process has grown much; some 20 ms.

    Kernels that are compiled for a shape of batch live on between the blocks of passes that are
    gone, and the gaps do not fit the next ones: on a processor with AMX a worker that trained
    SmolLM2 135M held 4.0 GB, of which 2.2 were free.

    Args:
        before_bytes: resident bytes after the last time.

    Returns:
        Resident bytes after this time.
    """
    if read_resident_bytes() - before_bytes < MIN_HEAP_GROWTH_BYTES:
        return before_bytes
    trim_heap()
    return read_resident_bytes()


def warm_libraries(device: str = "cpu", *, bf16: bool = False) -> None:
    """One tiny training step, so that what libraries allocate once is in the baseline.

    The first optimiser step imports parts of torch, the first product starts its threads and
    prepares its kernels (in bf16 too, with a workspace of their own on a GPU): hundreds of
    megabytes that belong to no method.
    """
    import torch

    layer = torch.nn.Linear(64, 64, device=device)
    optimizer = torch.optim.AdamW(layer.parameters())
    kind = device.split(":")[0]
    for cast in (False, True) if bf16 else (False,):
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=cast):
            rows = layer(torch.ones(2, 8, 64, device=device))
            heads = rows.view(2, 8, 4, 16).transpose(1, 2)
            mask = torch.zeros(2, 1, 8, 8, device=device, dtype=heads.dtype)
            attended = torch.nn.functional.scaled_dot_product_attention(
                heads, heads, heads, attn_mask=mask
            )
        torch.autograd.backward(attended.float().square().mean())
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    optimizer.step()
