"""Attention by torch's kernels for different lengths is our own; the kernels are stood in for."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.packed_attention import LOOKING, attention, kernels_on_cpu

from paretune.errors import StudyError
from paretune.models.packing import attention as packed_attention
from paretune.models.packing.layout import AttentionSettings, Packing

CASES = list(product(("flash", "efficient"), LOOKING, (None, 1, 2), (False, True)))


def by_both(
    kernel: Any, looking: Any, key_heads: int | None, front: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[torch.Tensor]], list[str]]:
    """Output and gradients of our attention, and of the kernel where it can; kernels called."""
    results = []
    with kernels_on_cpu() as called:
        for by_kernel in (False, True):
            attend, tensors = attention(*looking, 0.0, front, key_heads)

            def choose(query: Any, settings: Any, packing: Any, *, prefixed: bool) -> Any:
                runs = len(packing.layout.run_sequences)
                can = packed_attention.can_compute(kernel, settings, runs, prefixed=prefixed)
                return kernel if can and by_kernel else None  # noqa: B023

            monkeypatch.setattr(packed_attention, "choose_kernel", choose)
            out = attend(*tensors)
            results.append([out, *torch.autograd.grad(out.sin().sum(), tensors)])
    return results, called


@pytest.mark.parametrize(("kernel", "looking", "key_heads", "front"), CASES)
def test_a_kernel_computes_what_our_attention_does(
    kernel: Any,
    looking: Any,
    key_heads: int | None,
    front: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (ours, theirs), called = by_both(kernel, looking, key_heads, front, monkeypatch)
    role, window = looking
    windowed = window is not None and (kernel == "efficient" or role == "pooled" or front)
    assert called == ([] if windowed else [kernel])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other, mine, rtol=0, atol=1e-12)


def on(device: str, dtype: torch.dtype, width: int) -> Any:
    """A query of one head, as far as its kernel depends on it."""
    sizes = {torch.float32: 4, torch.bfloat16: 2}
    return SimpleNamespace(
        device=torch.device(device),
        dtype=dtype,
        shape=(9, width),
        element_size=lambda: sizes[dtype],
    )


@pytest.mark.parametrize(
    ("device", "dtype", "width", "capability", "kernel"),
    [
        ("cuda", torch.bfloat16, 64, (8, 0), "flash"),
        ("cuda", torch.bfloat16, 64, (7, 5), "efficient"),
        ("cuda", torch.bfloat16, 512, (9, 0), "efficient"),
        ("cuda", torch.float32, 64, (9, 0), "efficient"),
        ("cuda", torch.float32, 3, (9, 0), None),
        ("cpu", torch.float32, 64, (9, 0), None),
    ],
)
def test_which_kernel(
    device: str, dtype: Any, width: int, capability: Any, kernel: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    packing = Packing()
    packing.layout.begin_batch([4, 3], [1, 1])
    for dropout, expected in ((0.0, kernel), (0.1, None)):  # of two runs no kernel draws dropout
        settings = AttentionSettings(1, 1, 1.0, dropout)
        query = on(device, dtype, width)
        monkeypatch.delenv(packed_attention.VARIABLE, raising=False)
        assert packed_attention.choose_kernel(query, settings, packing, prefixed=False) is None
        monkeypatch.setenv(packed_attention.VARIABLE, "torch")
        assert packed_attention.choose_kernel(query, settings, packing, prefixed=False) == expected


def test_the_variable_is_read_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(packed_attention.VARIABLE, "flash")
    with pytest.raises(StudyError, match="expected own or torch"):
        packed_attention.is_requested()
