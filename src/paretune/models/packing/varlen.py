"""Attention over packed sequences by torch's own kernels for sequences of different lengths.

One call for all sequences of a pass, on rows as they lie, without a matrix of probabilities. Only
on CUDA, and only where ``PARETUNE_ATTENTION=torch`` asks for it: tests on a CPU, where other code
stands in for the kernels, find it equal to our own attention
(:mod:`paretune.models.packing.attention`); on a GPU it was neither timed nor compared.

Sources: FlashAttention-2 (Dao 2023, arXiv:2307.08691), for bf16 and fp16 from compute capability
8.0 on; memory-efficient attention (Rabe and Staats 2021, arXiv:2112.05682), for fp32 and older
cards, without windows. The public ``torch.nn.attention.varlen`` has the first without dropout; so
the operators below it are called.
"""

from __future__ import annotations

import os
from typing import Literal

import torch
from torch import Tensor

from paretune.errors import StudyError
from paretune.models.dropout import mix_seed
from paretune.models.packing.layout import AttentionSettings, Packing

VARIABLE = "PARETUNE_ATTENTION"
KERNEL_DEVICES = ("cuda",)
FLASH_CAPABILITY = (8, 0)
MAX_FLASH_WIDTH = 256
"""Of a head."""
ALIGNED_BYTES = 16
"""Of which the bytes of a head are a multiple, as the kernels read so many at once."""
NO_MASK, CAUSAL_FROM_END = 0, 2
"""The memory-efficient kernel's masks; the second aligns the last query with the last key."""

Kernel = Literal["flash", "efficient"]


def is_requested() -> bool:
    """Whether the variable asks for torch's kernels.

    Raises:
        StudyError: it is neither ``own`` nor ``torch``.
    """
    value = os.environ.get(VARIABLE, "") or "own"
    if value not in ("own", "torch"):
        raise StudyError(
            f'invalid value "{value}": expected own or torch.',
            where=VARIABLE,
            remedy="Unset it for paretune's own attention.",
        )
    return value == "torch"


def describe_attention(device: str) -> str:
    """Which code computes attention on a device; for ``paretune doctor``."""
    if torch.device(device).type not in KERNEL_DEVICES:
        return "paretune's own"
    flash = "FlashAttention in bf16, " if _has_flash(torch.device(device)) else ""
    kernels = f"torch's kernels ({flash}memory-efficient attention)"
    if is_requested():
        return kernels
    return f"paretune's own; {VARIABLE}=torch: {kernels}, untimed"


def choose_kernel(
    query: Tensor, settings: AttentionSettings, packing: Packing, *, prefixed: bool
) -> Kernel | None:
    """Which kernel computes this attention, if torch's are asked for; None: our own does."""
    if query.device.type not in KERNEL_DEVICES or not is_requested():
        return None
    width = query.shape[1] // settings.heads
    if width * query.element_size() % ALIGNED_BYTES:
        return None
    halved = query.dtype in (torch.bfloat16, torch.float16)
    kernels: list[Kernel] = ["efficient"]
    if halved and width <= MAX_FLASH_WIDTH and _has_flash(query.device):
        kernels.insert(0, "flash")
    runs = len(packing.layout.run_sequences)
    return next((k for k in kernels if can_compute(k, settings, runs, prefixed=prefixed)), None)


def can_compute(kernel: Kernel, settings: AttentionSettings, runs: int, *, prefixed: bool) -> bool:
    """Whether a kernel has what this attention asks for.

    None caps scores. Dropout is drawn for all runs of a pass from one seed. Windows are counted
    from the last query at the last key, so a pooled first token would see the wrong one, and hide
    virtual tokens, which ours never does.
    """
    if settings.softcap is not None or (settings.dropout > 0 and runs > 1):
        return False
    if settings.sliding_window is None:
        return True
    return kernel == "flash" and settings.role != "pooled" and not prefixed


def _has_flash(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= FLASH_CAPABILITY


def attend(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor] | None,
    packing: Packing,
    settings: AttentionSettings,
) -> Tensor:
    """Attention of the queries of a role; (query rows, width), (rows, width) twice -> like query.

    ``prefix``: keys and values in front of every sequence; (sequences, virtual tokens, width) each.
    """
    layout, role, window = packing.layout, settings.role, settings.sliding_window
    virtual = 0 if prefix is None else prefix[0].shape[1]
    if prefix is not None:
        order = layout.prefixed_rows(role, virtual)
        key, value = (
            torch.cat([front.flatten(0, 1), rows]).index_select(0, order)
            for front, rows in zip(prefix, (key, value), strict=True)
        )
    query = query.reshape(len(query), settings.heads, -1)
    key, value = (x.reshape(len(x), settings.key_heads, -1) for x in (key, value))
    if settings.dropout > 0:
        rng = packing.dropout_rng
        torch.cuda.manual_seed(mix_seed(rng.seeds[0], (rng.next_offset(),)))
    (ends_q, longest_q), (ends_k, longest_k) = layout.cumulative_lengths(role, virtual)
    bounds = (ends_q, ends_k, longest_q, longest_k, settings.dropout)
    causal = role.startswith("causal")
    out: Tensor
    if kernel == "flash":
        left = None if window is None else window - 1
        out = torch.ops.aten._flash_attention_forward(
            query, key, value, *bounds, causal, False, scale=settings.scaling,
            window_size_left=left, window_size_right=0 if causal and left is not None else left,
        )[0]  # fmt: skip
        return out.flatten(1)
    shared = settings.heads // settings.key_heads
    if shared > 1:  # it knows no grouped queries
        key, value = (x.repeat_interleave(shared, 1) for x in (key, value))
    mask = CAUSAL_FROM_END if causal else NO_MASK
    out = torch.ops.aten._efficient_attention_forward(
        query[None], key[None], value[None], None, *bounds, mask, True, scale=settings.scaling
    )[0]
    return out[0].flatten(1)
