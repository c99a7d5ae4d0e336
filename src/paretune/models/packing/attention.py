"""Softmax attention over packed sequences: no query meets a key of another sequence, or padding.

Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1, with dropout on the probabilities.
Forward and backward are written out for all sequences of a batch, group by group, so that autograd
keeps one node; the probabilities are kept for the backward pass, and their dropout is drawn once
more. With grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) the query heads that
share a head of keys are stacked as its queries, so that nothing is repeated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.dropout.masks import apply_mask, draw_mask, keep_scale
from paretune.models.packing.layout import AttentionGroup, PackedLayout
from paretune.models.packing.state import (
    AttentionDropout,
    AttentionPlan,
    AttentionSettings,
    Packing,
)
from paretune.models.packing.varlen import attend, choose_kernel

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
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """``transformers``' attention interface, for a module with ``packing`` and ``packed_role``.

    Shapes: query (rows, heads, 1, width of a head), key and value likewise, with rows of the source
    where targets attend to it; out (query rows, 1, heads, width of a head). Where only the last
    tokens of each text are computed, the rows of others are 0.
    """
    heads, width = query.shape[1], query.shape[3]
    layout: PackedLayout = module.packing.layout
    settings = AttentionSettings(
        heads=heads,
        dropout=dropout,
        scaling=width**-0.5 if scaling is None else scaling,
        role=module.packed_role,
        sliding_window=sliding_window,
        key_heads=key.shape[1],
        softcap=softcap,
    )
    if settings.role == "causal_tail" and layout.tail is None:
        settings = replace(settings, role="causal")
    query, key, value = (x.reshape(len(x), -1) for x in (query, key, value))
    if settings.role != "causal_tail":
        out = compute_packed_attention(module, query, key, value, settings)
        return out.view(len(out), 1, heads, width), None
    own = query.index_select(0, layout.tail_rows)
    out = compute_packed_attention(module, own, key, value, settings)
    whole = out.new_zeros(query.shape).index_copy(0, layout.tail_rows, out)
    return whole.view(len(whole), 1, heads, width), None


def compute_packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
) -> Tensor:
    """Attention of the queries of a role; (query rows, width), (rows, width) twice -> like query.

    Keys and values are narrower where they have fewer heads. The prefix of the module, if it has
    one, stands before the keys and values of every sequence.
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
    kernel = choose_kernel(query, settings, packing, prefixed=name is not None)
    if kernel is not None:
        front = None if prefix[0] is None or prefix[1] is None else (prefix[0], prefix[1])
        with torch.autocast(query.device.type, enabled=False):
            return attend(kernel, query, key, value, front, packing, settings)
    plan = _plan_attention(packing, settings)
    with torch.autocast(query.device.type, enabled=False):
        return _PackedAttention.apply(query, key, value, *prefix, plan)  # type: ignore[no-untyped-call,no-any-return]


def _plan_attention(packing: Packing, settings: AttentionSettings) -> AttentionPlan:
    dropout = None
    if settings.dropout > 0:
        rng = packing.dropout_rng
        dropout = AttentionDropout(rng.seeds, rng.next_offset(), settings.dropout)
    return AttentionPlan(
        groups=packing.layout.groups(settings.role),
        heads=settings.heads,
        key_heads=settings.key_heads or settings.heads,
        scaling=settings.scaling,
        window=settings.sliding_window,
        softcap=settings.softcap,
        dropout=dropout,
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
        out = torch.empty_like(query)
        all_probs = []
        virtual = 0 if prefix_key is None else prefix_key.shape[1]
        for group in plan.groups:
            q = _split_queries(group.queries.pad(query), plan)
            k = _split_heads(_keys_with_prefix(group, key, prefix_key), plan.key_heads)
            v = _split_heads(_keys_with_prefix(group, value, prefix_value), plan.key_heads)
            mask = _cached_mask(group, plan, virtual, k.shape[1], q)
            scores = _compute_scores(q, k, mask, plan)
            probs = torch.softmax(scores, -1)
            all_probs.append(probs)
            keep = _draw_group_mask(probs, group, plan.dropout)
            attended = torch.bmm(probs if keep is None else apply_mask(probs, keep), v)
            if plan.dropout is not None:
                attended = attended.mul_(keep_scale(plan.dropout.p))
            group.queries.unpad_into(_merge_queries(attended, plan), out)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, *all_probs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        query, key, value, prefix_key, prefix_value, *all_probs = ctx.saved_tensors
        plan: AttentionPlan = ctx.plan
        key_heads, scaling = plan.key_heads, plan.scaling
        needs = ctx.needs_input_grad
        d_query, d_key, d_value, d_prefix_key, d_prefix_value = (
            torch.empty_like(x) if want else None
            for x, want in zip((query, key, value, prefix_key, prefix_value), needs, strict=False)
        )
        of_scores = needs[0] or needs[1] or needs[3]
        none = gradient.new_zeros(1, 1, 1)
        for group, probs in zip(plan.groups, all_probs, strict=True):
            g = _split_queries(_pad_gradient(group, gradient), plan)
            keep = _draw_group_mask(probs, group, plan.dropout)
            if plan.dropout is not None:
                g = g * keep_scale(plan.dropout.p)  # the same as scaling probs, which are many more
            if needs[2] or needs[4]:
                kept_probs = probs if keep is None else apply_mask(probs, keep)
                d_v = torch.bmm(kept_probs.mT, g)
                _unpad_gradient(d_v, group, key_heads, d_value, d_prefix_value)
            if not of_scores:
                continue
            v = _split_heads(_keys_with_prefix(group, value, prefix_value), key_heads)
            d_probs = torch.bmm(g, v.mT)
            if keep is not None:
                d_probs = apply_mask(d_probs, keep, inplace=True)
            d_scores = torch._softmax_backward_data(d_probs, probs, -1, probs.dtype)
            k = _split_heads(_keys_with_prefix(group, key, prefix_key), key_heads)
            q = _split_queries(group.queries.pad(query), plan)
            if plan.softcap is not None:
                d_scores *= 1 - _cap(q, k, plan).square_()
            if d_query is not None:
                d_q = torch.baddbmm(none, d_scores, k, beta=0, alpha=scaling)
                group.queries.unpad_into(_merge_queries(d_q, plan), d_query)
            if d_key is not None or d_prefix_key is not None:
                d_k = torch.baddbmm(none, d_scores.mT, q, beta=0, alpha=scaling)
                _unpad_gradient(d_k, group, key_heads, d_key, d_prefix_key)
        return d_query, d_key, d_value, d_prefix_key, d_prefix_value, None


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences, length, width) -> (sequences * heads, length, width of a head)."""
    n, length, width = x.shape
    return x.view(n, length, heads, width // heads).transpose(1, 2).flatten(0, 1)


def _merge_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences * heads, length, width of a head) -> (sequences, length, width)."""
    return x.view(-1, heads, *x.shape[1:]).transpose(1, 2).flatten(2)


def _split_queries(x: Tensor, plan: AttentionPlan) -> Tensor:
    """(sequences, length, width) -> (sequences * key heads, shared * length, width of a head).

    ``shared`` query heads see one head of keys.
    """
    split = _split_heads(x, plan.heads)
    return split.reshape(len(x) * plan.key_heads, -1, split.shape[2])


def _merge_queries(x: Tensor, plan: AttentionPlan) -> Tensor:
    """The inverse of :func:`_split_queries`."""
    shared = plan.heads // plan.key_heads
    return _merge_heads(x.view(len(x) * shared, -1, x.shape[2]), plan.heads)


def _compute_scores(q: Tensor, k: Tensor, mask: Tensor, plan: AttentionPlan) -> Tensor:
    """Scores of queries and keys, masked; (sequences * key heads, shared * queries, keys)."""
    if plan.softcap is None:
        return torch.baddbmm(mask, q, k.mT, beta=int(mask.numel() > 1), alpha=plan.scaling)
    scores = _cap(q, k, plan).mul_(plan.softcap)
    return scores.add_(mask) if mask.numel() > 1 else scores


def _cap(q: Tensor, k: Tensor, plan: AttentionPlan) -> Tensor:
    """tanh(scores / softcap)."""
    assert plan.softcap is not None  # noqa: S101  (asked for where there is one)
    scores = torch.baddbmm(q.new_zeros(1, 1, 1), q, k.mT, beta=0, alpha=plan.scaling / plan.softcap)
    return scores.tanh_()


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
    """What is added to the scores, or of one element.

    Masked are the keys behind the end of a sequence, through a window those ``window`` tokens away
    or more, and of a target or a decoder's text those that come later; a prefix never is. Layers of
    a kind share it.

    Shape: (sequences * key heads, or 1 where all are alike; 1 or shared * queries; keys).
    """
    name = (plan.heads, plan.key_heads, virtual, keys, like.dtype, plan.window)
    if name not in group.masks:
        group.masks[name] = _make_mask(group, plan, virtual, keys, like)
    return group.masks[name]


def _make_mask(
    group: AttentionGroup, plan: AttentionPlan, virtual: int, keys: int, like: Tensor
) -> Tensor:
    masked = _mask_trees(group, plan, like) if group.trees else _mask_texts(group, plan, like)
    spare = keys - virtual - group.keys.length
    if masked is None and not spare:
        return like.new_zeros(1, 1, 1)
    if masked is None:
        masked = torch.zeros(1, 1, group.keys.length, dtype=torch.bool, device=like.device)
    masked = nn.functional.pad(nn.functional.pad(masked, (virtual, 0)), (0, spare), value=True)
    mask = torch.zeros(masked.shape, dtype=like.dtype, device=like.device)
    mask = mask.masked_fill_(masked, torch.finfo(like.dtype).min)
    shared = plan.heads // plan.key_heads
    if shared > 1 and mask.shape[1] > 1:
        mask = mask.repeat(1, shared, 1)
    return mask if len(mask) == 1 else mask.repeat_interleave(plan.key_heads, 0)


def _mask_texts(group: AttentionGroup, plan: AttentionPlan, like: Tensor) -> Tensor | None:
    """Which keys each query does not see, (sequences or 1, queries or 1, keys); None: it sees all.

    Behind the end of a text is after each of its tokens, so that causality masks it too.
    """
    masked = None if group.causal else group.keys.padding_mask
    distances = _distances(group, like)
    if group.causal and distances.shape[1:] != (1, 1):
        masked = distances < 0
    if plan.window is not None:
        far = distances.abs() >= plan.window
        masked = far if masked is None else masked | far
    return masked


def _mask_trees(group: AttentionGroup, plan: AttentionPlan, like: Tensor) -> Tensor:
    """Which keys each query does not see, of texts that share a beginning."""
    masked = np.ones((len(group.trees), group.queries.length, group.keys.length), dtype=bool)
    firsts = [0] * len(group.trees) if group.offsets is None else group.offsets.tolist()
    for own, tree, first in zip(masked, group.trees, firsts, strict=True):
        queries, keys = len(tree.depths) - first, len(tree.depths)
        own[:queries, :keys] = tree.is_masked(first, plan.window)
    return torch.from_numpy(masked).to(like.device)


def _distances(group: AttentionGroup, like: Tensor) -> Tensor:
    """By how many tokens each key is before each query; (sequences or 1, queries, keys)."""
    positions = torch.arange(group.keys.length, device=like.device)
    queries = positions[None, : group.queries.length]
    if group.offsets is not None:
        queries = queries + group.offsets[:, None]
    return queries[:, :, None] - positions


def _draw_group_mask(
    probs: Tensor, group: AttentionGroup, dropout: AttentionDropout | None
) -> Tensor | None:
    """Which probabilities dropout keeps; None where it keeps all."""
    if dropout is None:
        return None
    seed, offsets = dropout.stream(group)
    return draw_mask(seed, offsets, probs.numel(), dropout.p, probs.device)
