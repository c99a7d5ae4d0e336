"""Which devices torch can use here, without a CUDA context in a process that does not compute.

A context holds some hundred megabytes of the card for as long as its process lives, and on a card
in exclusive mode it keeps every other process away. So planning and watching query in a process
that ends at once; a process that computes queries its own context.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from paretune.errors import StudyError
from paretune.terminal import echo

DEVICE_HELP = 'Use "auto", "all", "cpu", "cuda", or some of several: "cuda:0,cuda:2".'
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Gpu:
    """One CUDA device. ``capability`` as NVIDIA counts it; ``read_free_bytes`` when it was asked.

    Of a card that another process has for itself alone, none are free.
    """

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]


def resolve_devices(names: str) -> tuple[str, ...]:
    """Devices of this machine, each once, in the order in which they are named.

    ``auto`` is one GPU where there is one, otherwise the CPU; ``all`` every GPU, otherwise the CPU.

    Raises:
        StudyError: there is no such device here, or paretune does not compute on its kind.
    """
    import torch

    if names == "all":
        count = torch.cuda.device_count()
        if count > 1:
            return tuple(f"cuda:{number}" for number in range(count))
        mps = not count and torch.backends.mps.is_available()
        return ("mps",) if mps else (resolve_device("auto"),)
    resolved = [resolve_device(name.strip()) for name in names.split(",")]
    if len(resolved) > 1:  # of several, each by its number
        resolved = ["cuda:0" if name == "cuda" else name for name in resolved]
    return tuple(dict.fromkeys(resolved))


def identify_device(device: str) -> str:
    """A device by a name that other processes of the machine have for it, too.

    What a process calls ``cuda:0`` is the first of those that ``CUDA_VISIBLE_DEVICES`` lets it see.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    index = int(number or 0)
    if index < len(visible) and visible[index].strip():
        return f"cuda:{visible[index].strip()}"
    return f"cuda:{index}"


def resolve_device(name: str) -> str:
    """A device of this machine; ``auto`` is a GPU where there is one, otherwise the CPU.

    Raises:
        StudyError: there is no such device here, or paretune does not compute on its kind.
    """
    import torch

    if name == "cpu":
        return name
    count = torch.cuda.device_count()  # makes no context
    if name == "auto":
        return "cuda" if count else "cpu"
    where = f"--devices {name}"
    if name == "mps" and torch.backends.mps.is_available():
        return name
    cuda = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if cuda is None and name != "mps":
        raise StudyError(f'invalid device "{name}".', where=where, remedy=DEVICE_HELP)
    if cuda is None or not count:
        kind = "no MPS" if cuda is None else "no CUDA"
        raise StudyError(
            f"torch sees {kind} device here.", where=where, remedy="Use --devices cpu."
        )
    if int(cuda.group(1) or 0) >= count:
        last = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise StudyError(
            f"there is no such GPU: torch sees {last}.", where=where, remedy=DEVICE_HELP
        )
    return name


def query_gpu(device: str) -> Gpu:
    """Properties of a CUDA device; without a context here, queried once, in a process of its own.

    Raises:
        StudyError: it does not answer.
    """
    import torch

    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return _query_here(device) if begun else _query_in_subprocess(device)


def read_free_bytes(device: str) -> int:
    """Memory that this process can still take on a CUDA device.

    What the allocator of this process keeps for reuse counts as free.
    """
    import torch

    free = query_gpu(device).free_bytes
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free)


@cache
def _query_in_subprocess(device: str) -> Gpu:
    command = [sys.executable, "-m", "paretune.measuring.devices", device]
    remedy = "Look at nvidia-smi, or use --devices cpu."
    try:
        done = subprocess.run(  # noqa: S603 (our own module, by the same interpreter)
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StudyError(
            f"the GPU has not answered for {_TIMEOUT_SECONDS} seconds.",
            where=f"--devices {device}",
            remedy=remedy,
        ) from None
    if done.returncode != 0:
        message = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        raise StudyError(
            f"the GPU cannot be used ({message}).", where=f"--devices {device}", remedy=remedy
        )
    fields: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Gpu(**{**fields, "capability": tuple(fields["capability"])})


def _query_here(device: str) -> Gpu:
    """Query through a context of this process."""
    import torch

    seen = torch.cuda.get_device_properties(device)
    try:
        free = int(torch.cuda.mem_get_info(device)[0])
    except RuntimeError:  # in exclusive mode, while another process has the card
        free = 0
    return Gpu(seen.name, int(seen.total_memory), free, (seen.major, seen.minor))


if __name__ == "__main__":
    echo(json.dumps(asdict(_query_here(sys.argv[1]))))  # read by the process that queries
