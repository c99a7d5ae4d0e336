"""Softmax attention over packed sequences: no query meets a key of another sequence, or padding.

Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1, with dropout on the probabilities.
Forward and backward are written out for all sequences of a batch, group by group, so that autograd
keeps one node; the probabilities are kept for the backward pass, and their dropout is drawn once
more. With grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) the query heads that
share a head of keys are stacked as its queries, so that nothing is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.dropout import apply_mask, draw_mask, keep_scale
from paretune.models.packing.layout import (
    AttentionGroup,
    AttentionRole,
    AttentionSettings,
    PackedLayout,
    Packing,
    RowBlock,
)

IMPLEMENTATION = "paretune_packed"
"""``transformers`` finds it by this name. No mask is registered with it: none is made."""
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
    role: AttentionRole = module.packed_role
    if role == "causal_tail" and layout.tail is None:
        role = "causal"
    scaling = width**-0.5 if scaling is None else scaling
    settings = AttentionSettings(
        heads, key.shape[1], scaling, dropout, role, sliding_window, softcap
    )
    query, key, value = (x.reshape(len(x), -1) for x in (query, key, value))
    if role != "causal_tail":
        out = compute_packed_attention(module, query, key, value, settings)
        return out.view(len(out), 1, heads, width), None
    tail = query.index_select(0, layout.tail_rows)
    out = compute_packed_attention(module, tail, key, value, settings)
    whole = out.new_zeros(query.shape).index_copy(0, layout.tail_rows, out)
    return whole.view(len(whole), 1, heads, width), None


def compute_packed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, settings: AttentionSettings
) -> Tensor:
    """Attention of the queries of a role; (query rows, width), (rows, width) twice -> like query.

    Keys and values are narrower where they have fewer heads. The prefix of the module, if it has
    one, stands before the keys and values of every sequence.
    """
    packing: Packing = module.packing
    name = getattr(module, "prefixes", None)
    # One dtype on both sides of every product. Autocast's lists differ between devices (softmax is
    # fp32 under CUDA's, not under the CPU's) and do not reach into a backward pass, while a method
    # may leave any of the three in fp32 (DoRA's value, IA3's and BitFit's scales).
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = torch.promote_types(query.dtype, torch.promote_types(key.dtype, value.dtype))
    query, key, value = (x.to(dtype) for x in (query, key, value))
    prefix: tuple[Tensor | None, Tensor | None] = (None, None)
    if name is not None:
        states = getattr(module, name).keys_and_values(len(packing.layout.lengths))
        prefix = states[0].to(dtype), states[1].to(dtype)
    with torch.autocast(device, enabled=False):
        rng = packing.dropout_rng
        offset = rng.next_offset() if settings.dropout > 0 else 0
        groups = packing.layout.groups(settings.role)
        batch = _AttentionBatch(settings, groups, rng.seed, offset)
        out: Tensor = _PackedAttention.apply(query, key, value, *prefix, batch)  # type: ignore[no-untyped-call]
    return out


@dataclass(frozen=True)
class _AttentionBatch:
    """One attention of one batch.

    Attributes:
        seed: what the dropout of the pass is drawn from.
        offset: of this attention's dropout in the pass.
    """

    settings: AttentionSettings
    groups: Sequence[AttentionGroup]
    seed: int
    offset: int

    def draw_mask(self, probs: Tensor, group: AttentionGroup) -> Tensor | None:
        """Mark the probabilities that dropout keeps; None if it keeps all."""
        p = self.settings.dropout
        if p <= 0:
            return None
        offsets = (self.offset, group.index)
        return draw_mask(self.seed, offsets, probs.numel(), p, probs.device)


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor | None,
        prefix_value: Tensor | None,
        batch: _AttentionBatch,
    ) -> Tensor:
        settings = batch.settings
        out = _allocate(query, batch.groups[-1].queries)
        all_probs = []
        virtual = 0 if prefix_key is None else prefix_key.shape[1]
        for group in batch.groups:
            q = _split_queries(group.queries.pad(query), settings)
            k = _split_heads(_keys_with_prefix(group, key, prefix_key), settings.key_heads)
            v = _split_heads(_keys_with_prefix(group, value, prefix_value), settings.key_heads)
            mask = _cached_mask(group, settings, virtual, k.shape[1], q)
            if settings.softcap is None:
                is_masked = int(mask.numel() > 1)
                scores = torch.baddbmm(mask, q, k.mT, beta=is_masked, alpha=settings.scaling)
            else:
                capped = _cap(q, k, settings.softcap, settings.scaling)
                scores = capped.mul_(settings.softcap)
                scores = scores.add_(mask) if mask.numel() > 1 else scores
            probs = torch.softmax(scores, -1)
            all_probs.append(probs)
            keep = batch.draw_mask(probs, group)
            attended = torch.bmm(probs if keep is None else apply_mask(probs, keep), v)
            if keep is not None:
                attended = attended.mul_(keep_scale(settings.dropout))
            group.queries.unpad_into(_merge_queries(attended, settings), out)
        ctx.batch = batch
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, *all_probs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        query, key, value, prefix_key, prefix_value, *all_probs = ctx.saved_tensors
        batch: _AttentionBatch = ctx.batch
        settings, needs = batch.settings, ctx.needs_input_grad
        key_heads, scaling = settings.key_heads, settings.scaling
        last = batch.groups[-1]
        d_query = _allocate(query, last.queries) if needs[0] else None
        d_key = _allocate(key, last.keys) if needs[1] else None
        d_value = _allocate(value, last.keys) if needs[2] else None
        d_prefix_key = torch.empty_like(prefix_key) if needs[3] else None
        d_prefix_value = torch.empty_like(prefix_value) if needs[4] else None
        of_scores = needs[0] or needs[1] or needs[3]
        none = gradient.new_zeros(1, 1, 1)
        for group, probs in zip(batch.groups, all_probs, strict=True):
            padded = group.queries.pad(gradient)
            if group.queries.padding_mask is not None:  # 0 behind the end of a sequence
                padded = padded.masked_fill(group.queries.padding_mask.mT, 0)
            g = _split_queries(padded, settings)
            keep = batch.draw_mask(probs, group)
            if keep is not None:
                g = g * keep_scale(settings.dropout)  # as scaling probs, which are many more
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
            q = _split_queries(group.queries.pad(query), settings)
            if settings.softcap is not None:
                d_scores *= 1 - _cap(q, k, settings.softcap, scaling).square_()
            if d_query is not None:
                d_q = torch.baddbmm(none, d_scores, k, beta=0, alpha=scaling)
                group.queries.unpad_into(_merge_queries(d_q, settings), d_query)
            if d_key is not None or d_prefix_key is not None:
                d_k = torch.baddbmm(none, d_scores.mT, q, beta=0, alpha=scaling)
                _unpad_gradient(d_k, group, key_heads, d_key, d_prefix_key)
        return d_query, d_key, d_value, d_prefix_key, d_prefix_value, None


def _allocate(like: Tensor, last: RowBlock) -> Tensor:
    """Memory for the rows of all blocks, and 0 in the filler behind the last of them."""
    rows = torch.empty_like(like)
    rows[last.stop :] = 0
    return rows


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences, length, width) -> (sequences * heads, length, width of a head)."""
    n, length, width = x.shape
    return x.view(n, length, heads, width // heads).transpose(1, 2).flatten(0, 1)


def _merge_heads(x: Tensor, heads: int) -> Tensor:
    """(sequences * heads, length, width of a head) -> (sequences, length, width)."""
    return x.view(-1, heads, *x.shape[1:]).transpose(1, 2).flatten(2)


def _split_queries(x: Tensor, settings: AttentionSettings) -> Tensor:
    """(sequences, length, width) -> (sequences * key heads, shared * length, width of a head).

    ``shared`` query heads see one head of keys.
    """
    split = _split_heads(x, settings.heads)
    return split.reshape(len(x) * settings.key_heads, -1, split.shape[2])


def _merge_queries(x: Tensor, settings: AttentionSettings) -> Tensor:
    """The inverse of :func:`_split_queries`."""
    shared = settings.heads // settings.key_heads
    return _merge_heads(x.view(len(x) * shared, -1, x.shape[2]), settings.heads)


def _cap(q: Tensor, k: Tensor, softcap: float, scaling: float) -> Tensor:
    scores = torch.baddbmm(q.new_zeros(1, 1, 1), q, k.mT, beta=0, alpha=scaling / softcap)
    return scores.tanh_()


def _keys_with_prefix(group: AttentionGroup, rows: Tensor, prefix: Tensor | None) -> Tensor:
    """Keys or values of a group's sequences, behind their prefix, if there is one.

    Shape: (sequences, keys, width). In bf16 the keys are rounded up to :data:`BF16_LANES` by rows
    of 0, which are masked: a softmax over other numbers takes up to five times as long.
    """
    padded = group.keys.pad(rows)
    if prefix is not None:
        padded = torch.cat([prefix[group.start : group.stop], padded], 1)
    spare = -padded.shape[1] % BF16_LANES if padded.element_size() == 2 else 0
    return nn.functional.pad(padded, (0, 0, 0, spare)) if spare else padded


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


def _cached_mask(
    group: AttentionGroup, settings: AttentionSettings, virtual: int, keys: int, like: Tensor
) -> Tensor:
    """The mask that is added to the scores; it has one element where nothing is masked.

    It hides the keys behind the end of a sequence, with a window those ``window`` tokens away or
    more, and in a target or a decoder's text those that come later, but never a prefix. Layers of a
    kind share it.

    Shape: (sequences * key heads, or 1 where all are alike; 1 or shared * queries; keys).
    """
    name = (settings.heads, settings.key_heads, virtual, keys, like.dtype, settings.sliding_window)
    if name in group.masks:
        return group.masks[name]
    if group.trees:  # texts that share a beginning
        shape = len(group.trees), group.queries.length, group.keys.length
        unseen = np.ones(shape, dtype=bool)
        firsts = [0] * len(group.trees) if group.offsets is None else group.offsets.tolist()
        for of_tree, tree, first in zip(unseen, group.trees, firsts, strict=True):
            rows = len(tree.depths)
            of_tree[: rows - first, :rows] = tree.is_masked(first, settings.sliding_window)
        masked: Tensor | None = torch.from_numpy(unseen).to(like.device)
    else:
        masked = _mask_texts(group, settings, like)
    spare = keys - virtual - group.keys.length
    if masked is None and not spare:
        return group.masks.setdefault(name, like.new_zeros(1, 1, 1))
    if masked is None:
        masked = torch.zeros(1, 1, group.keys.length, dtype=torch.bool, device=like.device)
    masked = nn.functional.pad(nn.functional.pad(masked, (virtual, 0)), (0, spare), value=True)
    mask = torch.zeros(masked.shape, dtype=like.dtype, device=like.device)
    mask = mask.masked_fill_(masked, torch.finfo(like.dtype).min)
    shared = settings.heads // settings.key_heads
    if shared > 1 and mask.shape[1] > 1:
        mask = mask.repeat(1, shared, 1)
    if len(mask) > 1:
        mask = mask.repeat_interleave(settings.key_heads, 0)
    return group.masks.setdefault(name, mask)


def _mask_texts(group: AttentionGroup, settings: AttentionSettings, like: Tensor) -> Tensor | None:
    """Mark the keys that a query does not see, (sequences or 1, queries or 1, keys), if any are.

    Padding lies behind each token of a text, so that causality masks it too.
    """
    masked = None if group.causal else group.keys.padding_mask
    positions = torch.arange(group.keys.length, device=like.device)
    queries = positions[None, : group.queries.length]
    if group.offsets is not None:
        queries = queries + group.offsets[:, None]
    # The number of tokens from each key on to each query; (sequences or 1, queries, keys).
    distances = queries[:, :, None] - positions
    if group.causal and distances.shape[1:] != (1, 1):
        masked = distances < 0
    if settings.sliding_window is not None:
        far = distances.abs() >= settings.sliding_window
        masked = far if masked is None else masked | far
    return masked
