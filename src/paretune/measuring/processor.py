"""CPU and memory that this process may use, affinity and cgroup limits included.

A container with two cores on a machine of sixty-four has two. Nothing here imports torch.
"""

from __future__ import annotations

import gc
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""Where libraries look for their number of threads, once; the last one is for the tokenizers."""

UNLIMITED = 2**60
"""Version 1 cgroups write a number near 2^63 where there is no limit."""

BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Processor flags (x86, x86, Arm) that mean products in bf16 are native."""

_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, usage, and the statistic of unused file pages: of version 2 and of version 1."""


def describe_processor() -> dict[str, Any]:
    """``name``, ``logical_cores``, ``physical_cores``, ``usable_cores``, ``quota``, ``flags``.

    ``usable_cores`` is what affinity and the cgroup's quota leave, at least 1; ``quota`` is None
    without one; ``physical_cores`` is None where the system does not say; ``flags`` are those of
    :data:`BF16_FLAGS` that the processor has.
    """
    return {
        "name": read_processor_name(),
        "logical_cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": count_usable_cores(),
        "quota": read_cpu_quota(),
        "flags": read_bf16_flags(),
    }


def count_usable_cores() -> int:
    """Cores that affinity and the cgroup's quota leave, at least 1.

    Workers, threads and cost measurements are all counted by this.
    """
    affinity = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = read_cpu_quota()
    return affinity if quota is None else max(1, min(affinity, math.floor(quota)))


def limit_threads_to_quota() -> None:
    """Let libraries that are imported later start no more threads than the quota bears.

    They look at affinity, not at a cgroup's quota: with more threads than cores' worth of time, all
    of them wait for those that the kernel has stopped. What the user has set stays.
    """
    if read_cpu_quota() is not None:
        for variable in THREAD_VARIABLES:
            os.environ.setdefault(variable, str(count_usable_cores()))


@contextmanager
def defer_collection() -> Iterator[None]:
    """Collect no garbage inside the block, which imports libraries.

    They make hardly any, and every collection looks at all that they have made: a fifth of the time
    that importing torch and transformers takes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_memory() -> dict[str, int | None]:
    """``total``, ``available`` and ``limit`` (the cgroup's, None without one), in bytes."""
    memory, limit = psutil.virtual_memory(), read_memory_limit()
    # A limit above what the machine has limits nothing.
    limit = limit if limit is not None and limit < memory.total else None
    return {"total": int(memory.total), "available": int(memory.available), "limit": limit}


def read_available_bytes(cgroup: Path = CGROUP, root: Path = CGROUP_ROOT) -> int:
    """Memory that can still be allocated: what is free, and no more than any cgroup allows.

    Inactive file pages of a cgroup count as free, as they do for the whole machine.
    """
    free = [int(psutil.virtual_memory().available)]
    free += [unused for _, unused in _read_memory_limits(cgroup, root) if unused is not None]
    return min(free)


def read_total_bytes() -> int:
    """Memory of the machine, and no more than any cgroup allows, whatever is in use now."""
    memory = read_memory()
    return memory["limit"] or memory["total"] or 0


def read_memory_limit(cgroup: Path = CGROUP, root: Path = CGROUP_ROOT) -> int | None:
    """Bytes that the tightest cgroup around this process allows; None if no limit."""
    return min((limit for limit, _ in _read_memory_limits(cgroup, root)), default=None)


def _read_memory_limits(cgroup: Path, root: Path) -> Iterator[tuple[int, int | None]]:
    """Limit of each cgroup around this process, and what is left of it where that is known."""
    for folder in list_cgroup_folders("memory", cgroup, root):
        for names in _MEMORY_FILES:
            limit, used = (_read(folder / name) for name in names[:2])
            if not limit.isdigit() or int(limit) >= UNLIMITED:
                continue
            lines = _read(folder / "memory.stat").splitlines()
            statistics = dict(line.partition(" ")[::2] for line in lines)
            inactive = int(statistics.get(names[2], 0))
            left = max(0, int(limit) - int(used) + inactive) if used.isdigit() else None
            yield int(limit), left


def read_cpu_quota(cgroup: Path = CGROUP, root: Path = CGROUP_ROOT) -> float | None:
    """Cores' worth of time that the tightest cgroup around this process allows; None if no limit.

    Version 2 writes ``quota period`` or ``max period`` to ``cpu.max``; version 1 has two files
    and -1 for no limit.
    """
    quotas = []
    for folder in list_cgroup_folders("cpu", cgroup, root):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def list_cgroup_folders(controller: str, cgroup: Path, root: Path) -> Iterator[Path]:
    """The cgroup of this process for a controller, and every one around it."""
    for line in _read(cgroup).splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        number, controllers, path = parts
        if number == "0" and not controllers:
            top = root / "unified" if (root / "unified").is_dir() else root
        elif controller in controllers.split(","):
            top = root / controller
        else:
            continue
        folder = top / path.lstrip("/")
        # Inside a container the path may be the host's: then the mount's top is all there is.
        while folder != top and top in folder.parents:
            yield folder
            folder = folder.parent
        yield top


def read_bf16_flags(cpuinfo: Path = CPUINFO) -> list[str]:
    """The :data:`BF16_FLAGS` that the processor has; none where there is no ``/proc/cpuinfo``.

    macOS and Windows tell this elsewhere, and torch has no fast path there.
    """
    words = _read_cpuinfo(cpuinfo, "flags", "Features").split()
    return [flag for flag in BF16_FLAGS if flag in words]


def read_vendor(cpuinfo: Path = CPUINFO) -> str:
    """``GenuineIntel`` or ``AuthenticAMD`` of an x86 processor; empty where it is not known."""
    return _read_cpuinfo(cpuinfo, "vendor_id")


def read_processor_name() -> str:
    """The processor's name, or its architecture where the system has no name for it."""
    return _read_cpuinfo(CPUINFO, "model name") or platform.processor() or platform.machine()


def _read_cpuinfo(path: Path, *names: str) -> str:
    """The first field with one of these names; empty where there is none."""
    for line in _read(path).splitlines():
        if line.startswith(names):
            return line.partition(":")[2].strip()
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # no such file: it limits nothing, and says nothing
