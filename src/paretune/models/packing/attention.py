"""Softmax attention over packed sequences: no query meets a key of another sequence, or padding.

Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1, with dropout on the probabilities.
Forward and backward are written out for all sequences of a batch, group by group, so that autograd
keeps one node; the probabilities are kept for the backward pass, and their dropout is drawn once
more. The same with compiled kernels is :mod:`paretune.models.kernels.attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.dropout.masks import apply_mask, draw_mask, keep_scale
from paretune.models.kernels import policy
from paretune.models.packing.layout import AttentionGroup
from paretune.models.packing.state import (
    AttentionDropout,
    AttentionPlan,
    AttentionSettings,
    Packing,
)

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
    where targets attend to it; out (query rows, 1, heads, width of a head).
    """
    heads, width = query.shape[1], query.shape[3]
    settings = AttentionSettings(
        heads=heads,
        dropout=dropout,
        scaling=width**-0.5 if scaling is None else scaling,
        role=module.packed_role,
        sliding_window=sliding_window,
    )
    query, key, value = (x.reshape(len(x), heads * width) for x in (query, key, value))
    out = compute_packed_attention(module, query, key, value, settings)
    return out.view(len(out), 1, heads, width), None


def compute_packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
) -> Tensor:
    """Attention of the queries of a role; (query rows, width), (rows, width) twice -> like query.

    The prefix of the module, if it has one, stands before the keys and values of every sequence.
    """
    packing = module.packing
    name = getattr(module, "prefixes", None)
    prefix: list[Tensor | None] = [None, None]
    if name is not None:
        prefix = [*getattr(module, name).keys_and_values(len(packing.layout.lengths))]
    # One dtype on both sides of every product. Autocast's lists differ between devices (softmax is
    # fp32 under CUDA's, not under the CPU's) and do not reach into a backward pass, while a method
    # may leave any of the three in fp32 (DoRA's value, IA3's and BitFit's scales).
    dtype = _compute_dtype(query, key, value)
    query, key, value = (x.to(dtype) for x in (query, key, value))
    prefix = [x if x is None else x.to(dtype) for x in prefix]
    plan = _plan_attention(packing, settings)
    # The kernels' softmax knows ends of texts and windows, not that a target sees no later token.
    masks_by_length = settings.scaling > 0 and settings.role != "causal"
    if masks_by_length and policy.can_use_kernels(query, key, value):
        from paretune.models.kernels.attention import KernelAttention

        packing.dropout_rng.used_kernels = True
        return KernelAttention.apply(query, key, value, *prefix, plan)  # type: ignore[no-untyped-call,no-any-return]
    with torch.autocast(query.device.type, enabled=False):
        return _PackedAttention.apply(query, key, value, *prefix, plan)  # type: ignore[no-untyped-call,no-any-return]


def _plan_attention(packing: Packing, settings: AttentionSettings) -> AttentionPlan:
    dropout = None
    if settings.dropout > 0:
        rng = packing.dropout_rng
        dropout = AttentionDropout(rng.seeds, rng.next_offset(), settings.dropout)
    query_lengths, key_lengths = packing.layout.attention_lengths(settings.role)
    return AttentionPlan(
        groups=packing.layout.groups(settings.role),
        heads=settings.heads,
        scaling=settings.scaling,
        window=settings.sliding_window,
        dropout=dropout,
        query_lengths=query_lengths,
        key_lengths=key_lengths,
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
        prefix_key: Tensor | None,
        prefix_value: Tensor | None,
        plan: AttentionPlan,
    ) -> Tensor:
        heads = plan.heads
        out = torch.empty_like(query)
        all_probs = []
        virtual = 0 if prefix_key is None else prefix_key.shape[1]
        for group in plan.groups:
            q = _split_heads(group.queries.pad(query), heads)
            k = _split_heads(_keys_with_prefix(group, key, prefix_key), heads)
            v = _split_heads(_keys_with_prefix(group, value, prefix_value), heads)
            mask = _cached_mask(group, plan, virtual, k.shape[1], q)
            scores = torch.baddbmm(mask, q, k.mT, beta=int(mask.numel() > 1), alpha=plan.scaling)
            probs = torch.softmax(scores, -1)
            all_probs.append(probs)
            keep = _draw_group_mask(probs, group, plan.dropout)
            attended = torch.bmm(probs if keep is None else apply_mask(probs, keep), v)
            if plan.dropout is not None:
                attended = attended.mul_(keep_scale(plan.dropout.p))
            group.queries.unpad_into(_merge_heads(attended, heads), out)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, *all_probs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        query, key, value, prefix_key, prefix_value, *all_probs = ctx.saved_tensors
        plan: AttentionPlan = ctx.plan
        heads, scaling = plan.heads, plan.scaling
        needs = ctx.needs_input_grad
        d_query, d_key, d_value, d_prefix_key, d_prefix_value = (
            torch.empty_like(x) if want else None
            for x, want in zip((query, key, value, prefix_key, prefix_value), needs, strict=False)
        )
        of_scores = needs[0] or needs[1] or needs[3]
        none = gradient.new_zeros(1, 1, 1)
        for group, probs in zip(plan.groups, all_probs, strict=True):
            g = _split_heads(_pad_gradient(group, gradient), heads)
            keep = _draw_group_mask(probs, group, plan.dropout)
            if plan.dropout is not None:
                g = g * keep_scale(plan.dropout.p)  # the same as scaling probs, which are many more
            if needs[2] or needs[4]:
                kept_probs = probs if keep is None else apply_mask(probs, keep)
                _unpad_gradient(torch.bmm(kept_probs.mT, g), group, heads, d_value, d_prefix_value)
            if not of_scores:
                continue
            v = _split_heads(_keys_with_prefix(group, value, prefix_value), heads)
            d_probs = torch.bmm(g, v.mT)
            if keep is not None:
                d_probs = apply_mask(d_probs, keep, inplace=True)
            d_scores = torch._softmax_backward_data(d_probs, probs, -1, probs.dtype)
            if d_query is not None:
                k = _split_heads(_keys_with_prefix(group, key, prefix_key), heads)
                d_q = torch.baddbmm(none, d_scores, k, beta=0, alpha=scaling)
                group.queries.unpad_into(_merge_heads(d_q, heads), d_query)
            if d_key is not None or d_prefix_key is not None:
                q = _split_heads(group.queries.pad(query), heads)
                d_k = torch.baddbmm(none, d_scores.mT, q, beta=0, alpha=scaling)
                _unpad_gradient(d_k, group, heads, d_key, d_prefix_key)
        return d_query, d_key, d_value, d_prefix_key, d_prefix_value, None


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences, length, width) -> (sequences * heads, length, width of a head)."""
    n, length, width = x.shape
    return x.view(n, length, heads, width // heads).transpose(1, 2).flatten(0, 1)


def _merge_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences * heads, length, width of a head) -> (sequences, length, width)."""
    return x.view(-1, heads, *x.shape[1:]).transpose(1, 2).flatten(2)


def _keys_with_prefix(group: AttentionGroup, rows: Tensor, prefix: Tensor | None) -> Tensor:
    """Keys or values of a group's sequences, behind their prefix, if there is one.

    Shape: (sequences, keys, width). In bf16 the keys are rounded up to :data:`BF16_LANES` by rows
    of 0, which are masked: a softmax over other numbers takes up to five times as long.
    """
    own = group.keys.pad(rows)
    if prefix is not None:
        own = torch.cat([prefix[group.start : group.stop], own], 1)
    spare = -own.shape[1] % BF16_LANES if own.element_size() == 2 else 0
    return nn.functional.pad(own, (0, 0, 0, spare)) if spare else own


def _unpad_gradient(
    gradient: Tensor,
    group: AttentionGroup,
    heads: int,
    d_rows: Tensor | None,
    d_prefix: Tensor | None,
) -> None:
    """Write a group's gradient of keys (or values) into those of the rows and of the prefix."""
    whole = _merge_heads(gradient, heads)
    virtual = 0
    if d_prefix is not None:
        virtual = d_prefix.shape[1]
        d_prefix[group.start : group.stop] = whole[:, :virtual]
    if d_rows is not None:
        group.keys.unpad_into(whole[:, virtual : virtual + group.keys.length], d_rows)


def _pad_gradient(group: AttentionGroup, gradient: Tensor) -> Tensor:
    """The gradient of a group's outputs, padded: 0 behind the end of a sequence."""
    padded = group.queries.pad(gradient)
    if group.queries.padding_mask is None:
        return padded
    return padded.masked_fill(group.queries.padding_mask.mT, 0)


def _cached_mask(
    group: AttentionGroup, plan: AttentionPlan, virtual: int, keys: int, like: Tensor
) -> Tensor:
    """What is added to the scores; (sequences * heads, 1 or queries, keys), or of one element.

    Masked are the keys behind the end of a sequence, through a window those ``window`` tokens away
    or more, and of a target those that come later; a prefix never is. Layers of a kind share it.
    """
    name = (plan.heads, virtual, keys, like.dtype, plan.window)
    if name not in group.masks:
        group.masks[name] = _make_mask(group, plan, virtual, keys, like)
    return group.masks[name]


def _make_mask(
    group: AttentionGroup, plan: AttentionPlan, virtual: int, keys: int, like: Tensor
) -> Tensor:
    masked = group.keys.padding_mask
    positions = torch.arange(group.keys.length, device=like.device)
    if group.causal:
        # Behind the end of a target is after each of its tokens: one triangle serves all.
        later = (positions[None] > positions[:, None])[None]
        masked = later if len(positions) > 1 else None
    if plan.window is not None:
        queries = positions if group.queries.length > 1 else positions[:1]  # the pooled token
        far = ((queries[:, None] - positions[None]).abs() >= plan.window)[None]
        masked = far if masked is None else masked | far
    spare = keys - virtual - group.keys.length
    if masked is None and not spare:
        return like.new_zeros(1, 1, 1)
    if masked is None:
        masked = torch.zeros(1, 1, group.keys.length, dtype=torch.bool, device=like.device)
    masked = nn.functional.pad(nn.functional.pad(masked, (virtual, 0)), (0, spare), value=True)
    mask = torch.zeros(masked.shape, dtype=like.dtype, device=like.device)
    mask = mask.masked_fill_(masked, torch.finfo(like.dtype).min)
    if group.causal and plan.window is None:
        return mask
    return mask.expand(group.keys.sequences, -1, -1).repeat_interleave(plan.heads, 0)


def _draw_group_mask(
    probs: Tensor, group: AttentionGroup, dropout: AttentionDropout | None
) -> Tensor | None:
    """Which probabilities dropout keeps; None where it keeps all."""
    if dropout is None:
        return None
    seed, offsets = dropout.stream(group)
    return draw_mask(seed, offsets, probs.numel(), dropout.p, probs.device)
