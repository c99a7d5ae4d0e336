"""Whether the kernel has killed a process for memory, by its own counters."""

from __future__ import annotations

from pathlib import Path

from paretune.measuring.processor import CGROUP, CGROUP_ROOT, list_cgroup_folders

VMSTAT = Path("/proc/vmstat")


def count_oom_kills(vmstat: Path = VMSTAT, cgroup: Path = CGROUP, root: Path = CGROUP_ROOT) -> int:
    """How many processes the kernel has killed for memory, as far as this process can see.

    The machine's counter (``/proc/vmstat``) and those of the control groups around this process, of
    version 2 (``memory.events``) and 1 (``memory.oom_control``). Only a rise means anything; always
    0 where there is none (not Linux).
    """
    counters = [vmstat]
    for folder in list_cgroup_folders("memory", cgroup, root):
        counters += [folder / "memory.events", folder / "memory.oom_control"]
    return sum(_read_counter(file) for file in counters)


def _read_counter(file: Path) -> int:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
