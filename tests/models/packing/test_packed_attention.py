"""Packed attention: its gradients, in every precision, for every role."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from support.chosen import chosen
from torch import Tensor
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from paretune.models.packing.attention import compute_packed_attention, packed_attention_forward
from paretune.models.packing.layout import AttentionRole, AttentionSettings, Packing

LOOKING = [(role, w) for role in ("self", "pooled", "causal", "causal_tail") for w in (None, 2)]
LOOKING += [("cross", None)]
"""Roles and windows."""
KEY_HEADS_AND_CAPS = [(None, None), (1, None), (2, 1.5)]
SHAPES = [
    ((*looking, front, *heads), together)
    for looking, heads, front, together in product(
        LOOKING, KEY_HEADS_AND_CAPS, (False, True), (False, True)
    )
]
"""Role, window, whether there are prefixes, key heads and cap; and padding between texts."""


def attention(
    role: AttentionRole,
    window: int | None,
    front: bool,
    key_heads: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Packed attention of five texts (or pairs), as a function of its tensors.

    Two heads of queries without ``key_heads``, which are those of keys; otherwise four.
    """
    lengths = [6, 5, 2, 5, 3]
    targets = [2, 4, 1, 3, 3]
    tails = [1, 3, 2, 5, 1]
    heads = 4 if key_heads else 2
    width = 8
    packing = Packing()
    packing.layout.begin_batch(lengths, targets=targets if role == "cross" else (), tails=tails)
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
        packing.dropout_rng.begin_pass(11)
        settings = AttentionSettings(heads, key_heads or heads, 0.7, dropout, role, window, softcap)
        return compute_packed_attention(module, q, k, v, settings)

    return attend, tensors


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("shape", "together"), chosen(SHAPES, 14))
def test_attention_has_the_gradients_that_it_says(
    shape: Any, together: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gradcheck in float64, texts each alone, and with padding between them.

    Along a random direction; with dropout and prefixes at once by every element.
    """
    monkeypatch.setattr(
        "paretune.models.packing.layout.GROUP_OVERHEAD_SCORES", 10**6 if together else 0
    )
    attend, tensors = attention(*shape, dropout=dropout)
    assert torch.autograd.gradcheck(attend, tensors, fast_mode=not (dropout and shape[2]))


@pytest.mark.parametrize(("shape", "together"), chosen(SHAPES, 7))
def test_attention_in_bf16_is_that_of_float64_rounded(
    shape: Any, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There keys are rounded up to whole vectors, which nobody sees."""
    monkeypatch.setattr(
        "paretune.models.packing.layout.GROUP_OVERHEAD_SCORES", 10**6 if together else 0
    )
    attend, tensors = attention(*shape)
    exact = attend(*tensors)
    expected = torch.autograd.grad(exact.square().sum(), tensors)
    rounded = [x.detach().bfloat16().requires_grad_() for x in tensors]
    near = attend(*rounded)
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=0.03)
    gradients = torch.autograd.grad(near.double().square().sum(), rounded)
    for gradient, right in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient.double(), right, rtol=0.05, atol=0.15)


@pytest.mark.parametrize("mixed", range(5))
def test_attention_computes_in_one_dtype_under_autocast(mixed: int) -> None:
    """Whatever a method left in fp32; and its gradient is in fp32 again."""
    attend, inputs = attention("self", None, front=True)
    dtypes = [torch.float32 if i == mixed else torch.bfloat16 for i in range(len(inputs))]
    tensors = [
        x.detach().to(dtype).requires_grad_() for x, dtype in zip(inputs, dtypes, strict=True)
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = attend(*tensors)
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near.double(), attend(*inputs), rtol=0, atol=0.03)
    # Outside of autocast, as training does it.
    gradients = torch.autograd.grad(near.float().square().sum(), tensors)
    assert [g.dtype for g in gradients] == dtypes


@pytest.mark.parametrize("tails", [(), (1, 3, 2, 5, 1)])
@pytest.mark.parametrize(
    ("window", "key_heads", "softcap"),
    [(w, *shape) for w in (None, 2) for shape in KEY_HEADS_AND_CAPS],
)
def test_causal_attention_is_that_of_transformers(
    window: int | None, key_heads: int | None, softcap: float | None, tails: tuple[int, ...]
) -> None:
    """Of Gemma 2, whose file has all of it, for each text alone."""
    lengths, heads, width = [6, 5, 2, 5, 3], 4, 8
    module: Any = torch.nn.Module()
    module.packing, module.packed_role = Packing(), "causal_tail"
    module.num_key_value_groups = heads // (key_heads or heads)
    module.packing.layout.begin_batch(lengths, tails=tails)
    draw = torch.Generator().manual_seed(1)
    query, key, value = (
        torch.randn(sum(lengths), count, 1, width, generator=draw)
        for count in (heads, key_heads or heads, key_heads or heads)
    )
    settings: dict[str, Any] = {"scaling": 0.7, "softcap": softcap}
    out = packed_attention_forward(
        module, query, key, value, None, sliding_window=window, **settings
    )[0]
    start = 0
    for length, tail in zip(lengths, tails or lengths, strict=True):
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = (distance >= 0) & (distance < (window or length))
        mask = torch.zeros(1, 1, length, length).masked_fill(~seen, torch.finfo().min)
        own = (x[start : start + length].permute(2, 1, 0, 3) for x in (query, key, value))
        expected = eager_attention_forward(module, *own, mask, **settings)[0][0]
        start += length
        torch.testing.assert_close(out[start - tail : start, 0], expected[length - tail :])
