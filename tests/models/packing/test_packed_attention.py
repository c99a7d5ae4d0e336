"""Packed attention: its gradients, in every precision, for every role."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from paretune.models.packing.attention import compute_packed_attention
from paretune.models.packing.layout import AttentionRole
from paretune.models.packing.state import AttentionSettings, Packing

LOOKING = [(role, w) for role in ("self", "pooled") for w in (None, 2)]
LOOKING += [("causal", None), ("cross", None)]


def attention(
    role: AttentionRole, window: int | None, dropout: float, front: bool
) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Packed attention of five texts (or pairs) of two runs, as a function of its tensors."""
    lengths, runs, heads, width = [6, 5, 2, 5, 3], [3, 2], 2, 8
    targets = [2, 4, 1, 3, 3]
    packing = Packing()
    packing.layout.begin_batch(lengths, runs, targets=targets)
    module = torch.nn.Module()
    module.packing = packing  # type: ignore[assignment]
    draw = torch.Generator().manual_seed(1)
    whole, target_rows = sum(lengths), sum(targets)
    rows, seen = {
        "self": (whole, whole),
        "pooled": (len(lengths), whole),
        "causal": (target_rows, target_rows),
        "cross": (target_rows, whole),
    }[role]
    shapes = [(rows, width), (seen, width), (seen, width)]
    shapes += [(len(lengths), 3, width)] * 2 if front else []
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
        settings = AttentionSettings(heads, dropout, 0.7, role, window)
        return compute_packed_attention(module, q, k, v, settings)

    return attend, tensors


@pytest.mark.parametrize(("role", "window"), LOOKING)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_attention_has_the_gradients_that_it_says(
    role: AttentionRole,
    window: int | None,
    dropout: float,
    front: bool,
    together: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gradcheck in float64, texts each alone, and with padding between them.

    Along a random direction; with dropout and prefixes at once by every element.
    """
    monkeypatch.setattr(
        "paretune.models.packing.layout.GROUP_OVERHEAD_SCORES", 10**6 if together else 0
    )
    attend, tensors = attention(role, window, dropout, front)
    assert torch.autograd.gradcheck(attend, tensors, fast_mode=not (dropout and front))


@pytest.mark.parametrize(("role", "window"), LOOKING)
@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_attention_in_bf16_is_that_of_float64_rounded(
    role: AttentionRole,
    window: int | None,
    front: bool,
    together: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There keys are rounded up to whole vectors, which nobody sees."""
    monkeypatch.setattr(
        "paretune.models.packing.layout.GROUP_OVERHEAD_SCORES", 10**6 if together else 0
    )
    attend, tensors = attention(role, window, 0.0, front)
    exact = attend(*tensors)
    expected = torch.autograd.grad(exact.square().sum(), tensors)
    rounded = [x.detach().bfloat16().requires_grad_() for x in tensors]
    near = attend(*rounded)
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=0.03)
    gradients = torch.autograd.grad(near.double().square().sum(), rounded)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.15)


@pytest.mark.parametrize("mixed", range(5))
def test_attention_computes_in_one_dtype_under_autocast(mixed: int) -> None:
    """Whatever a method left in fp32; and its gradient is in fp32 again."""
    attend, inputs = attention("self", None, 0.0, front=True)
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
