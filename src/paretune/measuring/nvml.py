"""Bytes of this process and energy of a card, from NVML, the driver's own library.

``pynvml`` is optional (package ``nvidia-ml-py``); without it, or where the driver does not answer,
each function returns None and the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

NOT_INSTALLED = "the package nvidia-ml-py is not installed (the extra paretune[gpu])"


def why_unavailable() -> str:
    """Why NVML does not answer; an empty string if it does."""
    try:
        import pynvml
    except ImportError:
        return NOT_INSTALLED
    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    return ""


def read_process_bytes(uuid: str) -> tuple[int | None, str]:
    """Bytes of this process on the card with this UUID, or None and why."""

    def ask(pynvml: Any, handle: Any) -> tuple[int | None, str]:
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid():
                if process.usedGpuMemory is None:
                    return None, "NVML does not tell the bytes of a process here"
                return int(process.usedGpuMemory), ""
        return None, "NVML lists no process with this id (containers hide it)"

    return _query(uuid, ask)


def read_millijoules(uuid: str) -> tuple[int | None, str]:
    """Energy that the card has used since the driver was loaded, or None and why."""

    def ask(pynvml: Any, handle: Any) -> tuple[int | None, str]:
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)), ""

    return _query(uuid, ask)


def _query(uuid: str, ask: Callable[[Any, Any], tuple[int | None, str]]) -> tuple[int | None, str]:
    try:
        import pynvml
    except ImportError:
        return None, NOT_INSTALLED
    # torch's UUID has no prefix, NVML's has.
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    try:
        pynvml.nvmlInit()
        try:
            return ask(pynvml, pynvml.nvmlDeviceGetHandleByUUID(name))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
