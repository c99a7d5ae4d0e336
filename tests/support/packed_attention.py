"""Packed attention of a few short texts, and torch's kernels of packed texts on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, library

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


calls: list[str] = []
"""The kernels that were called."""


def visible(queries: int, keys: int, causal: bool, left: int | None, right: int | None) -> Tensor:
    """(queries, keys) which keys a query sees."""
    place = torch.arange(queries)[:, None] + keys - queries
    behind = place - torch.arange(keys)[None]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if causal:
        seen &= behind >= 0
    if left is not None and left >= 0:
        seen &= behind <= left
    if right is not None and right >= 0:
        seen &= behind >= -right
    return seen


def probabilities(q: Tensor, k: Tensor, scale: float, seen: Tensor) -> Tensor:
    """(heads, queries, keys)."""
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def forward(q: Tensor, k: Tensor, v: Tensor, ends: Any, scale: float, mask: Any) -> Tensor:
    out, shared = torch.empty_like(q), q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, 1) for x in (k, v))
    for (a, b), (c, d) in pairs(*ends):
        p = probabilities(q[a:b], k[c:d], scale, visible(b - a, d - c, *mask))
        out[a:b] = torch.einsum("hqk,khd->qhd", p, v[c:d])
    return out


def backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, ends: Any, scale: float, mask: Any
) -> tuple[Tensor, Tensor, Tensor]:
    heads, shared = k.shape[1], q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, 1) for x in (k, v))
    d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for (a, b), (c, d) in pairs(*ends):
        p = probabilities(q[a:b], k[c:d], scale, visible(b - a, d - c, *mask))
        d_v[c:d] = torch.einsum("hqk,qhd->khd", p, g[a:b])
        d_p = torch.einsum("qhd,khd->hqk", g[a:b], v[c:d])
        d_s = p * (d_p - (d_p * p).sum(-1, keepdim=True)) * scale
        d_q[a:b] = torch.einsum("hqk,khd->qhd", d_s, k[c:d])
        d_k[c:d] = torch.einsum("hqk,qhd->khd", d_s, q[a:b])
    d_k, d_v = (x.unflatten(1, (heads, shared)).sum(2) for x in (d_k, d_v))
    return d_q, d_k, d_v


def pairs(ends_q: Tensor, ends_k: Tensor) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for q, k in zip(*(pairwise(e) for e in (ends_q, ends_k)), strict=True):
        yield (int(q[0]), int(q[1])), (int(k[0]), int(k[1]))


def flash_forward(
    q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor, ends_k: Tensor, longest_q: int,
    longest_k: int, dropout: float, causal: bool, debug: bool, *, scale: float,
    window_size_left: int | None = None, window_size_right: int | None = None, **rest: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    check_ends(q, k, ends_q, ends_k, longest_q, longest_k, dropout, rest)
    calls.append("flash")
    mask = (causal, window_size_left, window_size_right)
    none = [torch.zeros(2, dtype=torch.int64) for _ in range(3)]
    return (forward(q, k, v, (ends_q, ends_k), scale, mask), q.new_zeros(q.shape[1], len(q)), *none)


def flash_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, ends_q: Tensor,
    ends_k: Tensor, longest_q: int, longest_k: int, dropout: float, causal: bool, *state: Any,
    scale: float, window_size_left: int | None = None, window_size_right: int | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    mask = (causal, window_size_left, window_size_right)
    return backward(g, q, k, v, (ends_q, ends_k), scale, mask)


def efficient_forward(
    q: Tensor, k: Tensor, v: Tensor, bias: None, ends_q: Tensor, ends_k: Tensor, longest_q: int,
    longest_k: int, dropout: float, mask: int, compute_log_sumexp: bool = False, *, scale: float,
    **rest: Any,
) -> tuple[Any, ...]:  # fmt: skip
    assert compute_log_sumexp and bias is None and mask in (0, 2) and q.shape[2] == k.shape[2]
    check_ends(q[0], k[0], ends_q, ends_k, longest_q, longest_k, dropout, rest)
    calls.append("efficient")
    out = forward(q[0], k[0], v[0], (ends_q, ends_k), scale, (mask == 2, None, None))
    none = torch.zeros((), dtype=torch.int64)
    return out[None], q.new_zeros(1), none, none.clone(), longest_q, longest_k


def efficient_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: None, out: Tensor, ends_q: Tensor,
    ends_k: Tensor, longest_q: int, longest_k: int, lse: Tensor, dropout: float, seed: Tensor,
    offset: Tensor, mask: int, bias_requires_grad: bool, *, scale: float, **rest: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    ends = (ends_q, ends_k)
    grads = backward(g[0], q[0], k[0], v[0], ends, scale, (mask == 2, None, None))
    return (*(x[None] for x in grads), torch.empty(0))


def check_ends(
    q: Tensor, k: Tensor, ends_q: Tensor, ends_k: Tensor, longest_q: int, longest_k: int,
    dropout: float, rest: dict[str, Any],
) -> None:  # fmt: skip
    """What a kernel would read wrongly or refuse."""
    for rows, ends, longest in ((q, ends_q, longest_q), (k, ends_k, longest_k)):
        assert ends.dtype == torch.int32 and int(ends[0]) == 0 and int(ends[-1]) == len(rows)
        assert int(ends.diff().max()) == longest and rows.stride(-1) == 1
    assert dropout == 0 and all(value is None for value in rest.values())


@contextmanager
def kernels_on_cpu() -> Iterator[list[str]]:
    """While it is open, torch has these kernels on a CPU; the names of those that were called."""
    calls.clear()
    kernels = library.Library("aten", "IMPL")
    try:
        for name, function in (
            ("_flash_attention_forward", flash_forward),
            ("_flash_attention_backward", flash_backward),
            ("_efficient_attention_forward", efficient_forward),
            ("_efficient_attention_backward", efficient_backward),
        ):
            kernels.impl(name, function, "CPU")
        yield calls
    finally:
        kernels._destroy()
