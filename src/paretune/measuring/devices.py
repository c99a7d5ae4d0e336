"""Finds the devices that torch can use here, their fast precision, and the state of a card.

Devices are found without a CUDA context in a process that does not compute. A context holds some
hundred megabytes of the card for as long as its process lives, and on a card in exclusive mode it
keeps every other process away. So planning and watching query in a process that ends at once; a
process that computes queries its own context. The driver's library is NVML (package
``nvidia-ml-py``, optional).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from paretune.errors import StudyError, spell_option
from paretune.measuring.processor import read_bf16_flags, read_vendor
from paretune.terminal import echo

DEVICE_HELP = 'Use "auto", "all", "cpu", "cuda", or some of several: "cuda:0,cuda:2".'
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Gpu:
    """One CUDA device. ``capability`` as NVIDIA counts it; ``read_free_bytes`` when it was asked.

    A card that another process has for itself alone has no free bytes.
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

    ``cuda:0`` of a process is the first device that ``CUDA_VISIBLE_DEVICES`` lets it see.
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
    where = spell_option("devices", name)
    if name == "mps" and torch.backends.mps.is_available():
        return name
    cuda = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if cuda is None and name != "mps":
        raise StudyError(f'invalid device "{name}".', where=where, remedy=DEVICE_HELP)
    if cuda is None or not count:
        kind = "no MPS" if cuda is None else "no CUDA"
        raise StudyError(
            f"torch sees {kind} device here.",
            where=where,
            remedy=f"Use {spell_option('devices', 'cpu')}.",
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

    Memory that this process's allocator keeps for reuse counts as free.
    """
    import torch

    free = query_gpu(device).free_bytes
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free)


@cache
def _query_in_subprocess(device: str) -> Gpu:
    command = [sys.executable, "-m", "paretune.measuring.devices", device]
    where = spell_option("devices", device)
    remedy = f"Look at nvidia-smi, or use {spell_option('devices', 'cpu')}."
    try:
        done = subprocess.run(  # noqa: S603 (our own module, by the same interpreter)
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StudyError(
            f"the GPU has not answered for {_TIMEOUT_SECONDS} seconds.",
            where=where,
            remedy=remedy,
        ) from None
    if done.returncode != 0:
        message = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        raise StudyError(f"the GPU cannot be used ({message}).", where=where, remedy=remedy)
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


Precision = Literal["fp32", "bf16"]

MIN_CPU_WIDTH = 256
"""Hidden size from which a CPU that is fast in bf16 gains by it: below, a step is not mostly
products (dev/log.md, 26 November 2026)."""
MIN_GPU_WIDTH = 768
"""Narrower layers take as long as their launch on a GPU, in either precision."""


def resolve_auto_precision(device: str, width: int | None) -> Precision:
    """The precision on a device; ``width``: the model's hidden size, None where not known.

    A rule, never a timing: what a run is must not depend on how busy the machine was when the study
    began. ``paretune doctor`` shows the rule beside a timing, so that a user can see where the two
    differ and name the precision in the study file.
    """
    fast, _ = is_bf16_fast(device)
    return "bf16" if fast and width is not None and width >= min_bf16_width(device) else "fp32"


def min_bf16_width(device: str) -> int:
    """The hidden size from which a device that is fast in bf16 gains by it."""
    return MIN_GPU_WIDTH if device.startswith("cuda") else MIN_CPU_WIDTH


def has_native_bf16(device: str = "cpu") -> tuple[bool, str]:
    """Whether the device multiplies in bf16 itself, and how that is known."""
    if device.startswith("cuda"):
        major, minor = query_gpu(device).capability
        has = "has" if major >= 8 else "has no"
        return major >= 8, f"compute capability {major}.{minor} {has} native bf16"
    if device.startswith("mps"):
        return False, "bf16 on MPS is not tried: fp32 is kept"
    flags = read_bf16_flags()
    if not flags:
        return False, "the processor has no avx512_bf16, amx_bf16 or Arm bf16"
    return True, f"the processor has {', '.join(flags)}"


def is_bf16_fast(device: str = "cpu") -> tuple[bool, str]:
    """Whether products in bf16 are faster than in fp32 on this device, as far as was measured."""
    native, reason = has_native_bf16(device)
    if not native or device.startswith("cuda"):
        return native, reason
    flags = read_bf16_flags()
    if "amx_bf16" in flags:
        return True, reason
    if "avx512_bf16" in flags and read_vendor() == "AuthenticAMD":
        return True, f"{reason} (AMD)"
    if "avx512_bf16" in flags:
        return False, f"{reason} without amx_bf16: half the speed of fp32 on Intel"
    return False, f"{reason}: not measured on Arm yet"


BYTES_NOT_TOLD = "NVML does not tell the bytes of a process here"
NOT_INSTALLED = "the package nvidia-ml-py is not installed (the extra paretune[gpu])"


def why_nvml_unavailable() -> str:
    """Why NVML, the driver's own library, does not answer; an empty string if it does."""
    return _query_nvml(lambda pynvml: (0, ""))[1]


def read_process_bytes(uuid: str) -> tuple[int | None, str]:
    """Bytes of this process on the card with this UUID, or None and why."""

    def read(pynvml: Any) -> tuple[int | None, str]:
        # Torch's UUID has no prefix, NVML's has.
        named = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        card = pynvml.nvmlDeviceGetHandleByUUID(named)
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(card):
            if process.pid == os.getpid():
                if process.usedGpuMemory is None:
                    return None, BYTES_NOT_TOLD
                return int(process.usedGpuMemory), ""
        return None, "NVML lists no process with this id (containers hide it)"

    return _query_nvml(read)


def read_tree_bytes(pids: Collection[int]) -> tuple[int | None, str]:
    """Bytes of these processes on all cards, or None and why."""

    def read(pynvml: Any) -> tuple[int | None, str]:
        sizes = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            card = pynvml.nvmlDeviceGetHandleByIndex(index)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(card):
                if process.pid in pids:
                    sizes.append(process.usedGpuMemory)
        if None in sizes:
            return None, BYTES_NOT_TOLD
        return (sum(map(int, sizes)), "") if sizes else (None, "NVML lists none of the processes")

    return _query_nvml(read)


def _query_nvml(read: Callable[[Any], tuple[int | None, str]]) -> tuple[int | None, str]:
    try:
        import pynvml
    except ImportError:
        return None, NOT_INSTALLED
    try:
        pynvml.nvmlInit()
        try:
            return read(pynvml)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"


if __name__ == "__main__":
    echo(json.dumps(asdict(_query_here(sys.argv[1]))))  # read by the process that queries
