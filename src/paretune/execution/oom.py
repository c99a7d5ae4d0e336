"""Has the kernel killed a process for want of memory? Its own counters tell; nothing is guessed."""

from __future__ import annotations

from pathlib import Path


def oom_kills() -> int:
    """How many processes the kernel has killed for memory, as far as this process can see.

    The machine's counter (``/proc/vmstat``) and that of this process's control group; only a rise
    means anything. 0 for ever where there is neither (not Linux).
    """
    counters = [Path("/proc/vmstat")]
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        groups = []
    for group in groups:
        number, _, path = group.split(":", 2)
        if number == "0":
            counters.append(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events")
    return sum(_counted(file) for file in counters)


def _counted(file: Path) -> int:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
