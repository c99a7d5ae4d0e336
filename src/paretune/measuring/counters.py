"""Counters of peak memory: the kernel's high-water mark, a sampling thread, CUDA's allocator.

Each is a :class:`Counter`: bytes now, start, and the peak since. :func:`choose_counter` has the one
for a device.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from paretune.measuring.nvml import read_process_bytes

SAMPLE_SECONDS = 0.002
"""Between two samples; shorter peaks can be missed, and the counter's name says so."""

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


class Counter(Protocol):
    """A source of peak bytes."""

    name: str

    def read_bytes(self) -> int:
        """Bytes held at this moment."""

    def start(self) -> None:
        """Forget older peaks and watch from here."""

    def stop(self) -> tuple[dict[str, int], dict[str, str]]:
        """Measured bytes (``peak_bytes`` among them), and reasons for what is not there."""


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
        self._peak = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

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
        if self._thread is None:
            raise RuntimeError("the sampler was not started")
        self._ended.set()
        self._thread.join()
        self._thread = None
        return {"peak_bytes": max(self._peak, self.read_bytes())}, {}


class CudaAllocator:
    """The peaks of torch's CUDA allocator, and what NVML says this process holds.

    ``peak_bytes`` is the allocated peak: the only one of the three that the allocator's caching
    does not blur. NVML has no peak, so ``read_process_bytes`` is read at the phase's end, when the
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


def choose_counter(device: str) -> Counter:
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
    import psutil

    return int(psutil.Process().memory_info().rss)
