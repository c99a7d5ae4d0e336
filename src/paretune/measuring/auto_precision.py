"""What ``precision: auto`` means: a rule over the device and the model's width, never a timing.

What a run is must not depend on how busy the machine was when the study began. `paretune doctor`
shows the rule beside a timing (:func:`paretune.measuring.speed.measure_bf16_speedup`), so that a
user can see where the two differ and name the precision in the study file.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from paretune.measuring.devices import query_gpu
from paretune.measuring.processor import read_bf16_flags, read_vendor

Precision = Literal["fp32", "bf16"]

MIN_CPU_WIDTH = 256
"""Hidden size from which a CPU that is fast in bf16 gains by it: below, a step is not mostly
products (dev/log.md, 26 November 2026)."""
MIN_GPU_WIDTH = 768
"""The same of a GPU, where narrower layers take as long as their launch in either precision."""


class AutoPrecision(NamedTuple):
    """The precision that ``auto`` means, and why."""

    precision: Precision
    reason: str


def resolve_auto_precision(device: str, width: int | None) -> AutoPrecision:
    """The precision on a device; ``width``: the model's hidden size, None where not known."""
    fast, reason = is_bf16_fast(device)
    if not fast:
        return AutoPrecision("fp32", reason)
    least = MIN_GPU_WIDTH if device.startswith("cuda") else MIN_CPU_WIDTH
    if width is None:
        return AutoPrecision("fp32", f"{reason}, but the model's width is not known")
    if width < least:
        return AutoPrecision("fp32", f"{reason}, but a width of {width} is below {least}")
    return AutoPrecision("bf16", reason)


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
