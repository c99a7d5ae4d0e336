"""Softmax attention over packed sequences: no query meets a key of another sequence, or padding.

Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1, with dropout on the shares. Forward and
backward are written out for all sequences of a batch, group by group, so that autograd keeps one
node; the shares are kept for the backward pass, and what dropout took is drawn once more.
The same with compiled passes is :mod:`paretune.models.kernels.attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.dropout.rng import apply_mask, draw_mask, keep_scale
from paretune.models.kernels import policy
from paretune.models.packing.layout import AttentionGroup, AttentionRole

IMPLEMENTATION = "paretune_packed"
"""Under which ``transformers`` finds it. No mask is registered with it: none is made."""
BF16_LANES = 32
"""How many bf16 numbers a CPU's vector instructions take at once."""


def packed_attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """``transformers``' attention interface, for a module with ``packing`` and ``packed_role``.

    Shapes: query (rows, heads, 1, width of a head), key and value likewise, with rows of the source
    where a target looks at it; out (query rows, 1, heads, width of a head).
    """
    heads, width = query.shape[1], query.shape[3]
    out = compute_packed_attention(
        module,
        *(x.reshape(len(x), heads * width) for x in (query, key, value)),
        heads=heads,
        dropout=dropout,
        scaling=width**-0.5 if scaling is None else scaling,
        role=module.packed_role,
        sliding_window=sliding_window,
    )
    return out.view(len(out), 1, heads, width), None


def compute_packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    heads: int,
    dropout: float,
    scaling: float,
    role: AttentionRole = "own",
    sliding_window: int | None = None,
) -> Tensor:
    """Attention of the queries of a role; (query rows, width), (rows, width) twice -> like query.

    The prefix of the module, if it has one, stands before the keys and values of every sequence.
    """
    packing = module.packing
    name = getattr(module, "prefixes", None)
    front: tuple[Tensor | None, Tensor | None] = (None, None)
    if name is not None:
        given = getattr(module, name).keys_and_values(len(packing.layout.lengths))
        front = (given[0], given[1])
    # One dtype on both sides of every product. Autocast's lists differ between devices (softmax is
    # fp32 under CUDA's, not under the CPU's) and do not reach into a backward pass, while a method
    # may leave any of the three in fp32 (DoRA's value, IA3's and BitFit's scales).
    device = query.device.type
    dtype = _compute_dtype(query, key, value)
    query, key, value = (x.to(dtype) for x in (query, key, value))
    front = tuple(x if x is None else x.to(dtype) for x in front)  # type: ignore[assignment]
    groups = packing.layout.groups(role)
    drawn = None
    if dropout > 0:
        drawn = (packing.dropout_rng.seeds, packing.dropout_rng.next_offset(), dropout)
    # The compiled softmax knows ends of texts and windows, not that a target sees no later token.
    if scaling > 0 and role != "causal" and policy.can_use_kernels(query, key, value):
        from paretune.models.kernels.attention import KernelAttention

        packing.dropout_rng.used_kernels = True
        lengths = packing.layout.attention_lengths(role)
        return KernelAttention.apply(  # type: ignore[no-untyped-call,no-any-return]
            query, key, value, *front, groups, heads, scaling, drawn, sliding_window, lengths
        )
    with torch.autocast(device, enabled=False):
        return _PackedAttention.apply(  # type: ignore[no-untyped-call,no-any-return]
            query, key, value, *front, groups, heads, scaling, drawn, sliding_window
        )


def _compute_dtype(query: Tensor, key: Tensor, value: Tensor) -> torch.dtype:
    """The dtype in which attention is computed: autocast's, or the widest of the three."""
    device = query.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.promote_types(query.dtype, torch.promote_types(key.dtype, value.dtype))


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        front_key: Tensor | None,
        front_value: Tensor | None,
        groups: list[AttentionGroup],
        heads: int,
        scaling: float,
        drawn: tuple[list[int], int, float] | None,
        window: int | None,
    ) -> Tensor:
        out = torch.empty_like(query)
        kept_shares = []
        for group in groups:
            q = _split_heads(group.queries.pad(query), heads)
            k = _split_heads(_keys_with_prefix(group, key, front_key), heads)
            v = _split_heads(_keys_with_prefix(group, value, front_value), heads)
            virtual = 0 if front_key is None else front_key.shape[1]
            mask = _cached_mask(group, heads, virtual, k.shape[1], q, window)
            scores = torch.baddbmm(mask, q, k.mT, beta=int(mask.numel() > 1), alpha=scaling)
            shares = torch.softmax(scores, -1)
            kept_shares.append(shares)
            keep = _draw_group_mask(shares, group, drawn)
            found = torch.bmm(shares if keep is None else apply_mask(shares, keep), v)
            if drawn is not None:
                found = found.mul_(keep_scale(drawn[2]))
            group.queries.unpad_into(_merge_heads(found, heads), out)
        ctx.groups, ctx.heads, ctx.scaling, ctx.drawn = groups, heads, scaling, drawn
        ctx.save_for_backward(query, key, value, front_key, front_value, *kept_shares)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        query, key, value, front_key, front_value, *kept_shares = ctx.saved_tensors
        heads, scaling = ctx.heads, ctx.scaling
        wanted = ctx.needs_input_grad
        d_query, d_key, d_value = (
            torch.empty_like(x) if want else None
            for x, want in zip((query, key, value), wanted, strict=False)
        )
        fronts = [
            torch.empty_like(x) if want else None
            for x, want in zip((front_key, front_value), wanted[3:5], strict=True)
        ]
        of_scores = wanted[0] or wanted[1] or wanted[3]
        none = gradient.new_zeros(1, 1, 1)
        for group, shares in zip(ctx.groups, kept_shares, strict=True):
            g = _split_heads(_pad_gradient(group, gradient), heads)
            keep = _draw_group_mask(shares, group, ctx.drawn)
            if keep is not None:
                g = g * keep_scale(ctx.drawn[2])  # the same as scaling shares, which are many more
            if wanted[2] or wanted[4]:
                seen = shares if keep is None else apply_mask(shares, keep)
                _unpad_gradient(torch.bmm(seen.mT, g), group, heads, d_value, fronts[1])
            if not of_scores:
                continue
            v = _split_heads(_keys_with_prefix(group, value, front_value), heads)
            d_shares = torch.bmm(g, v.mT)
            if keep is not None:
                d_shares = apply_mask(d_shares, keep, inplace=True)
            d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
            if d_query is not None:
                k = _split_heads(_keys_with_prefix(group, key, front_key), heads)
                d_q = torch.baddbmm(none, d_scores, k, beta=0, alpha=scaling)
                group.queries.unpad_into(_merge_heads(d_q, heads), d_query)
            if d_key is not None or fronts[0] is not None:
                q = _split_heads(group.queries.pad(query), heads)
                d_k = torch.baddbmm(none, d_scores.mT, q, beta=0, alpha=scaling)
                _unpad_gradient(d_k, group, heads, d_key, fronts[0])
        return d_query, d_key, d_value, *fronts, None, None, None, None, None


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences, length, width) -> (sequences * heads, length, width of a head)."""
    n, length, width = x.shape
    return x.view(n, length, heads, width // heads).transpose(1, 2).flatten(0, 1)


def _merge_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences * heads, length, width of a head) -> (sequences, length, width)."""
    return x.view(-1, heads, *x.shape[1:]).transpose(1, 2).flatten(2)


def _keys_with_prefix(group: AttentionGroup, rows: Tensor, front: Tensor | None) -> Tensor:
    """Keys or values of a group's sequences, behind their prefix, if there is one.

    Shape: (sequences, keys, width). In bf16 the keys are rounded up to :data:`BF16_LANES` by rows
    of 0, which nobody sees: a softmax over other numbers takes up to five times as long.
    """
    own = group.keys.pad(rows)
    if front is not None:
        own = torch.cat([front[group.start : group.stop], own], 1)
    spare = -own.shape[1] % BF16_LANES if own.element_size() == 2 else 0
    return nn.functional.pad(own, (0, 0, 0, spare)) if spare else own


def _unpad_gradient(
    gradient: Tensor, group: AttentionGroup, heads: int, own: Tensor | None, front: Tensor | None
) -> None:
    """Give keys (or values) and their prefix each its part of a gradient."""
    whole = _merge_heads(gradient, heads)
    virtual = 0
    if front is not None:
        virtual = front.shape[1]
        front[group.start : group.stop] = whole[:, :virtual]
    if own is not None:
        group.keys.unpad_into(whole[:, virtual : virtual + group.keys.length], own)


def _pad_gradient(group: AttentionGroup, gradient: Tensor) -> Tensor:
    """What comes back to a group's queries: nothing to a place behind the end of a sequence."""
    spread = group.queries.pad(gradient)
    if group.queries.padding_mask is None:
        return spread
    return spread.masked_fill(group.queries.padding_mask.mT, 0)


def _cached_mask(
    group: AttentionGroup, heads: int, virtual: int, keys: int, like: Tensor, window: int | None
) -> Tensor:
    """What is added to the scores; of one element where nothing is hidden.

    Shape: (sequences * heads, 1 or queries, keys). Behind the end of a sequence nothing is seen,
    nor, through a window, what is ``window`` places away or more, nor, of a target, what comes
    later; a prefix always is. All layers of a kind share it, so the group keeps it.
    """
    name = (heads, virtual, keys, like.dtype, window)
    if name not in group.masks:
        group.masks[name] = _make_mask(group, heads, virtual, keys, like, window)
    return group.masks[name]


def _make_mask(
    group: AttentionGroup, heads: int, virtual: int, keys: int, like: Tensor, window: int | None
) -> Tensor:
    hidden = group.keys.padding_mask
    if group.causal:
        # Behind the end of a target is after each of its tokens: one triangle serves all.
        at = torch.arange(group.keys.length, device=like.device)
        hidden = (at[None] > at[:, None])[None] if len(at) > 1 else None
    if window is not None:
        at = torch.arange(group.keys.length, device=like.device)
        looking = at if group.queries.length > 1 else at[:1]  # the first token looks
        far = ((looking[:, None] - at[None]).abs() >= window)[None]
        hidden = far if hidden is None else hidden | far
    spare = keys - virtual - group.keys.length
    if hidden is None and not spare:
        return like.new_zeros(1, 1, 1)
    if hidden is None:
        hidden = torch.zeros(1, 1, group.keys.length, dtype=torch.bool, device=like.device)
    hidden = nn.functional.pad(nn.functional.pad(hidden, (virtual, 0)), (0, spare), value=True)
    shut = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    shut = shut.masked_fill_(hidden, torch.finfo(like.dtype).min)
    if group.causal and window is None:
        return shut
    return shut.expand(group.keys.sequences, -1, -1).repeat_interleave(heads, 0)


def _draw_group_mask(
    shares: Tensor, group: AttentionGroup, drawn: tuple[list[int], int, float] | None
) -> Tensor | None:
    """Which shares dropout leaves; None where it leaves all."""
    if drawn is None:
        return None
    seeds, place, p = drawn
    return draw_mask(seeds[group.run], (place, group.index), shares.numel(), p, shares.device)
