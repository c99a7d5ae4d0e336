"""Owners of claims and of unfinished files: a process of a machine, ``host:boot:pid:start``.

A worker's owner also says on which device it computes, behind an ``@``, so that a cost measurement
can be kept apart from runs on the same device only.

A process that was killed cannot give its run back. Its owner string lets another process on the
same machine prove that it is gone, so that its run is claimable at once instead of after the lease.
The proof is strict: whatever cannot be seen from here (another machine, another container, another
boot of the machine) counts as alive, and its lease must run out.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_ENDED = "ended"


@dataclass(frozen=True)
class Place:
    """Where a worker computes: a machine (one boot of a kernel, whatever its containers) and one of
    its devices.
    """

    machine: str
    device: str


def current_owner(device: str = "") -> str:
    """The owner string of this process; ``device``: on which it computes."""
    return owner_of(os.getpid(), device)


def owner_of(pid: int, device: str = "") -> str:
    """The owner string of a process of this machine (a child that was not waited for, say)."""
    process = f"{socket.gethostname()}:{_boot_id()}:{pid}:{_start_time(pid)}"
    return f"{process}@{device}" if device else process


def place_of(owner: str) -> Place | None:
    """The place where the owner computes, if its string says so."""
    process, _, device = owner.partition("@")
    parts = process.split(":")
    if len(parts) != 4 or not device:
        return None
    return Place(parts[1].partition(".")[0], device)


def is_provably_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that is certainly gone."""
    parts = owner.partition("@")[0].split(":")
    if len(parts) != 4 or not parts[2].isdecimal():
        return False
    host, boot, pid, start = parts
    here = host == socket.gethostname() and boot == _boot_id()
    return here and _has_ended(int(pid), start)


def owner_tag() -> str:
    """The owner for use in file names: a hash of machine and boot, then process and start."""
    return f"{_machine_hash()}-{os.getpid()}-{_start_time(os.getpid())}"


def is_tag_of_dead_owner(tag: str) -> bool:
    """Whether a tag of :func:`owner_tag` is of a process of this machine that is certainly gone."""
    machine, _, process = tag.partition("-")
    pid, _, start = process.partition("-")
    return machine == _machine_hash() and pid.isdecimal() and _has_ended(int(pid), start)


def _machine_hash() -> str:
    return hashlib.sha256(f"{socket.gethostname()}:{_boot_id()}".encode()).hexdigest()[:8]


def _has_ended(pid: int, start: str) -> bool:
    """Whether a process of this machine, with that start, is certainly gone."""
    if not process_exists(pid):
        return True
    now = _start_time(pid)
    return now is not None and now != start


def process_exists(pid: int) -> bool:
    """Whether this machine has a process of that number, of whatever user."""
    if sys.platform == "win32":  # signal 0 is Ctrl-C there
        return bool(psutil.pid_exists(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@cache
def _boot_id() -> str:
    """The machine's boot and the process namespace: a pid means nothing outside them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return f"{psutil.boot_time():.0f}"


def _start_time(pid: int) -> str | None:
    """Start of a process (in exact ticks where there is a /proc); None: it cannot be seen.

    A process that ended but was not yet waited for (a zombie) has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return None  # this system has a /proc, and hides that process (or it ended just now)
        try:
            process = psutil.Process(pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return _ENDED if ended else f"{process.create_time():.2f}"
        except psutil.Error:
            return None
    fields = stat.rpartition(")")[2].split()
    return _ENDED if fields[0] in "ZX" else fields[19]
