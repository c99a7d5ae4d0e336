"""Packed attention of a few short texts, as a function of its tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from paretune.models.packing.attention import compute_packed_attention
from paretune.models.packing.layout import AttentionRole, AttentionSettings, Packing

LOOKING = [(role, w) for role in ("self", "pooled", "causal", "causal_tail") for w in (None, 2)]
LOOKING += [("cross", None)]
"""Roles and windows."""


def attention(
    role: AttentionRole,
    window: int | None,
    dropout: float,
    front: bool,
    key_heads: int | None = None,
    softcap: float | None = None,
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Packed attention of five texts (or pairs) of two runs, as a function of its tensors.

    Two heads of queries without ``key_heads``, which are those of keys; otherwise four.
    """
    lengths, runs, heads, width = [6, 5, 2, 5, 3], [3, 2], 4 if key_heads else 2, 8
    targets, tails = [2, 4, 1, 3, 3], [1, 3, 2, 5, 1]
    packing = Packing()
    packing.layout.begin_batch(
        lengths, runs, targets=targets if role == "cross" else (), tails=tails
    )
    module = torch.nn.Module()
    module.packing = packing  # type: ignore[assignment]
    draw = torch.Generator().manual_seed(1)
    whole = sum(lengths)
    rows = {"pooled": len(lengths), "causal_tail": sum(tails), "cross": sum(targets)}
    key_width = width * (key_heads or heads) // heads
    shapes = [(rows.get(role, whole), width), (whole, key_width), (whole, key_width)]
    shapes += [(len(lengths), 3, key_width)] * 2 if front else []
    tensors = [
        torch.randn(*shape, generator=draw, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]

    def attend(q: Tensor, k: Tensor, v: Tensor, *fronts: Tensor) -> Tensor:
        if fronts:
            module.prefixes = "ours"  # type: ignore[assignment]
            prefix = torch.nn.Module()
            prefix.keys_and_values = lambda rows: fronts  # type: ignore[assignment]
            module.ours = prefix
        packing.dropout_rng.begin_pass([11, 12], [])
        settings = AttentionSettings(heads, key_heads or heads, 0.7, dropout, role, window, softcap)
        return compute_packed_attention(module, q, k, v, settings)

    return attend, tensors
