"""The node of packed attention again, with compiled passes between torch's products.

Equal to :mod:`paretune.models.packing.attention` but for rounding. Scores of a few sequences at a
time go through product, softmax, dropout and product while they are in the second cache.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from paretune.models.dropout.rng import keep_scale, keep_threshold
from paretune.models.kernels import heads as rows_of
from paretune.models.kernels import softmax
from paretune.models.kernels.dropout_rows import sfc64_state
from paretune.models.packing.layout import AttentionGroup, RowBlock

SCORES_PER_STEP = 1 << 17
"""Scores that are computed together: half a megabyte, beside as much of shares."""
_NOTHING = np.zeros(4, np.uint64)


class KernelAttention(torch.autograd.Function):
    """See :func:`paretune.models.packing.attention.compute_packed_attention`."""

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
        lengths: tuple[list[int], list[int]],
    ) -> Tensor:
        """Shapes as there; ``lengths``: of every sequence, the rows that look, and those seen."""
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept: list[Tensor] = []
        virtual = 0 if front_key is None else front_key.shape[1]
        dropping = drawn is not None
        for group in groups:
            asking, asked = _group_lengths(group, lengths)
            q = _split_rows(query, group.queries, asking, heads)
            k = _keys_with_prefix(front_key, key, group, asked, heads)
            v = _keys_with_prefix(front_value, value, group, asked, heads)
            shares = torch.empty(len(q), q.shape[1], k.shape[1])
            found = torch.empty_like(q)
            step, seen = _scratch(shares, heads, dropping)
            state = _NOTHING if drawn is None else _group_state(group, drawn)
            for first in range(0, len(asking), step):
                some = slice(first, first + step)
                own = slice(first * heads, (first + step) * heads)
                part = shares[own]
                left = seen[: len(part)] if dropping else part
                torch.bmm(q[own], k[own].mT, out=part)
                softmax.forward(
                    part.numpy(), left.numpy(), asking[some], asked[some], heads, virtual,
                    window or 0, np.float32(scaling), dropping, state,
                    0 if drawn is None else keep_threshold(drawn[2]),
                )  # fmt: skip
                torch.bmm(left, v[own], out=found[own])
            factor = 1.0 if drawn is None else keep_scale(drawn[2])
            _merge_rows(found, group.queries, asking, heads, out, factor=factor)
            kept += [q, k, v, shares]
        ctx.groups, ctx.heads, ctx.scaling, ctx.drawn = groups, heads, scaling, drawn
        ctx.lengths, ctx.virtual = lengths, virtual
        ctx.run_shapes = [None if x is None else x.shape for x in (query, key, value)]
        ctx.virtual_rows = [None if x is None else x.shape for x in (front_key, front_value)]
        ctx.save_for_backward(*kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Gradients of queries, keys, values and prefixes, where they are wanted."""
        heads, virtual, dropping = ctx.heads, ctx.virtual, ctx.drawn is not None
        wanted = ctx.needs_input_grad
        rows = [torch.empty(s) if w else None for s, w in zip(ctx.run_shapes, wanted, strict=False)]
        fronts = [
            torch.empty(s) if w else None
            for s, w in zip(ctx.virtual_rows, wanted[3:5], strict=True)
        ]
        of_keys, of_values = wanted[1] or wanted[3], wanted[2] or wanted[4]
        factor = (
            keep_scale(ctx.drawn[2]) if dropping else 1.0
        )  # sooner than of shares, which are more
        for number, group in enumerate(ctx.groups):
            q, k, v, shares = ctx.saved_tensors[4 * number : 4 * number + 4]
            asking, asked = _group_lengths(group, ctx.lengths)
            g = _split_rows(gradient, group.queries, asking, heads, factor=factor)
            step, seen = _scratch(shares, heads, dropping)
            given = torch.empty_like(shares[: step * heads])
            d_q, d_k, d_v = (
                torch.empty_like(x) if w else None
                for x, w in ((q, wanted[0]), (k, of_keys), (v, of_values))
            )
            for first in range(0, len(asking), step):
                some = slice(first, first + step)
                own = slice(first * heads, (first + step) * heads)
                part = shares[own]
                left = seen[: len(part)] if dropping else part
                back = given[: len(part)]
                torch.bmm(g[own], v[own].mT, out=back)
                softmax.backward(
                    part.numpy(), back.numpy(), left.numpy(), asking[some], asked[some], heads,
                    virtual, np.float32(ctx.scaling), dropping,
                )  # fmt: skip
                for made, one, other in ((d_q, back, k), (d_k, back.mT, q), (d_v, left.mT, g)):
                    if made is not None:
                        torch.bmm(one, other[own], out=made[own])
            if d_q is not None:
                _merge_rows(d_q, group.queries, asking, heads, rows[0])
            for made, own_rows, front in ((d_k, rows[1], fronts[0]), (d_v, rows[2], fronts[1])):
                if made is not None and own_rows is not None:
                    _merge_rows(made, group.keys, asked, heads, own_rows, virtual=virtual)
                if made is not None and front is not None:
                    _prefix_heads(front, group, heads).copy_(
                        _prefix_positions(made, heads, virtual)
                    )
        return *rows, *fronts, None, None, None, None, None, None


def _group_lengths(group: AttentionGroup, lengths: tuple[list[int], list[int]]) -> tuple[Any, Any]:
    """Of each sequence of a group, the tokens that look and those that are looked at."""
    asking, asked = (np.array(held[group.start : group.stop], np.int64) for held in lengths)
    return asking, asked


def _group_state(group: AttentionGroup, drawn: tuple[list[int], int, float]) -> Any:
    seeds, place, _ = drawn
    return sfc64_state(seeds[group.run], (place, group.index))


def _scratch(shares: Tensor, heads: int, dropping: bool) -> tuple[int, Tensor]:
    """How many sequences are computed at once, and room for the shares that dropout leaves them.

    Their scores fill whole words of random bits, so that the next ones go on where they ended.
    """
    each = heads * shares.shape[1] * shares.shape[2]
    whole = 4 // gcd(each, 4)
    step = max(1, SCORES_PER_STEP // (each * whole)) * whole
    return step, torch.empty_like(shares[: step * heads]) if dropping else shares[:0]


def _split_rows(
    x: Tensor, side: RowBlock, lengths: Any, heads: int, *, virtual: int = 0, factor: float = 1.0
) -> Tensor:
    """(rows, width) -> (sequences * heads, virtual + length, width of a head)."""
    out = torch.empty(len(lengths) * heads, virtual + side.length, x.shape[1] // heads)
    rows_of.split_heads(
        x.detach().contiguous().numpy(), side.start, lengths, heads, virtual, np.float32(factor),
        out.numpy(),
    )  # fmt: skip
    return out


def _merge_rows(
    blocks: Tensor,
    side: RowBlock,
    lengths: Any,
    heads: int,
    into: Any,
    *,
    virtual: int = 0,
    factor: float = 1.0,
) -> None:
    rows_of.merge_heads(
        blocks.numpy(), side.start, lengths, heads, virtual, np.float32(factor), into.numpy()
    )


def _keys_with_prefix(
    front: Tensor | None, x: Tensor, group: AttentionGroup, lengths: Any, heads: int
) -> Tensor:
    """Keys or values of a group's sequences, behind their prefix, if there is one."""
    virtual = 0 if front is None else front.shape[1]
    out = _split_rows(x, group.keys, lengths, heads, virtual=virtual)
    if front is not None:
        _prefix_positions(out, heads, virtual).copy_(_prefix_heads(front, group, heads))
    return out


def _prefix_positions(blocks: Tensor, heads: int, virtual: int) -> Tensor:
    """The places of the prefix: (sequences, heads, virtual, width of a head)."""
    return blocks.view(-1, heads, *blocks.shape[1:])[:, :, :virtual]


def _prefix_heads(front: Tensor, group: AttentionGroup, heads: int) -> Tensor:
    """A group's prefixes, (sequences, virtual, width), seen like :func:`_prefix_positions`."""
    own = front[group.start : group.stop]
    return own.reshape(*own.shape[:2], heads, -1).transpose(1, 2)  # a view, where it is filled
