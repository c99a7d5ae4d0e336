"""Models computed in float64 all the way: ``transformers`` rounds some tensors to fp32."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTED_NORMS = {
    "t5": "T5LayerNorm",
    "llama": "LlamaRMSNorm",
    "qwen2": "Qwen2RMSNorm",
    "qwen3": "Qwen3RMSNorm",
    "mistral": "MistralRMSNorm",
    "phi3": "Phi3RMSNorm",
}
"""The norm that multiplies by its weight, by architecture."""
OFFSET_NORMS = {"gemma2": "Gemma2RMSNorm", "gemma3": "Gemma3RMSNorm"}
"""The norm that multiplies by 1 and its weight, by architecture."""


def compute_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep rotations, norms and capped attention from being rounded to fp32 on the way."""
    monkeypatch.setattr(_modeling("modernbert"), "apply_rotary_pos_emb", _rotate)
    for family, name in WEIGHTED_NORMS.items():
        monkeypatch.setattr(getattr(_modeling(family), name), "forward", _normalise)
    for family, name in OFFSET_NORMS.items():
        monkeypatch.setattr(getattr(_modeling(family), name), "forward", _normalise_with_offset)
    monkeypatch.setattr(_modeling("gemma2"), "eager_attention_forward", _capped_attention)


def _modeling(family: str) -> Any:
    return import_module(f"transformers.models.{family}.modeling_{family}")


def _rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Any:
    rotate_half = _modeling("modernbert").rotate_half
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return tuple(x * cos + rotate_half(x) * sin for x in (q, k))


def _normalise(norm: Any, x: Tensor) -> Any:
    return norm.weight * (
        x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    )


def _normalise_with_offset(norm: Any, x: Tensor) -> Any:
    return (1 + norm.weight) * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps))


def _capped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float = 1.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    key, value = (x.repeat_interleave(module.num_key_value_groups, 1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask
    shares = F.dropout(F.softmax(scores, dim=-1), p=dropout, training=module.training)
    return (shares @ value).transpose(1, 2).contiguous(), shares
