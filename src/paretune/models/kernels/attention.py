"""Packed attention again, with compiled kernels between torch's products.

Equal to :mod:`paretune.models.packing.attention` but for rounding. Scores of a few sequences at a
time go through product, softmax, dropout and product while they are in the second cache.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from paretune.models.dropout.masks import keep_scale, keep_threshold
from paretune.models.kernels import softmax
from paretune.models.kernels.dropout_rows import sfc64_state
from paretune.models.kernels.jit import jit_kernel
from paretune.models.packing.layout import AttentionGroup, RowBlock

if TYPE_CHECKING:
    from paretune.models.packing.state import AttentionPlan


@jit_kernel("void(float32[:, ::1], int64, int64[::1], int64, int64, float32, float32[:, :, ::1])")
def split_heads(
    x: Any, start: Any, lengths: Any, heads: Any, virtual: Any, factor: Any, out: Any
) -> None:
    """Rows from ``start`` on, times ``factor``, behind ``virtual`` positions that are left alone.

    Shapes: x (rows, width), lengths (sequences,) -> (sequences * heads, virtual + longest, width of
    a head), 0 behind the end of a sequence.
    """
    width = out.shape[2]
    row = start
    for sequence in range(lengths.size):
        length = lengths[sequence]
        for head in range(heads):
            block = out[sequence * heads + head]
            for i in range(length):
                for j in range(width):
                    block[virtual + i, j] = x[row + i, head * width + j] * factor
            for i in range(virtual + length, out.shape[1]):
                for j in range(width):
                    block[i, j] = np.float32(0)
        row += length


@jit_kernel("void(float32[:, :, ::1], int64, int64[::1], int64, int64, float32, float32[:, ::1])")
def merge_heads(
    blocks: Any, start: Any, lengths: Any, heads: Any, virtual: Any, factor: Any, x: Any
) -> None:
    """The inverse of :func:`split_heads`: positions of no token are left out."""
    width = blocks.shape[2]
    row = start
    for sequence in range(lengths.size):
        length = lengths[sequence]
        for head in range(heads):
            block = blocks[sequence * heads + head]
            for i in range(length):
                for j in range(width):
                    x[row + i, head * width + j] = block[virtual + i, j] * factor
        row += length


SCORES_PER_STEP = 1 << 17
"""Scores that are computed together: half a megabyte, beside as much of probabilities."""
_NOTHING = np.zeros(4, np.uint64)


class KernelAttention(torch.autograd.Function):
    """See :func:`paretune.models.packing.attention.compute_packed_attention`."""

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
        """Shapes as there."""
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        saved: list[Tensor] = []
        virtual = 0 if prefix_key is None else prefix_key.shape[1]
        heads, dropout = plan.heads, plan.dropout
        threshold = 0 if dropout is None else keep_threshold(dropout.p)
        factor = 1.0 if dropout is None else keep_scale(dropout.p)
        for group in plan.groups:
            query_lengths, key_lengths = _group_lengths(group, plan)
            q = _split_rows(query, group.queries, query_lengths, heads)
            k = _keys_with_prefix(prefix_key, key, group, key_lengths, heads)
            v = _keys_with_prefix(prefix_value, value, group, key_lengths, heads)
            probs = torch.empty(len(q), q.shape[1], k.shape[1])
            attended = torch.empty_like(q)
            step, scratch = _scratch(probs, heads, dropout is not None)
            state = _NOTHING if dropout is None else sfc64_state(*dropout.stream(group))
            for first in range(0, len(query_lengths), step):
                some = slice(first, first + step)
                own = slice(first * heads, (first + step) * heads)
                part = probs[own]
                dropped = part if dropout is None else scratch[: len(part)]
                torch.bmm(q[own], k[own].mT, out=part)
                softmax.forward(
                    part.numpy(), dropped.numpy(), query_lengths[some], key_lengths[some], heads,
                    virtual, plan.window or 0, np.float32(plan.scaling), dropout is not None, state,
                    threshold,
                )  # fmt: skip
                torch.bmm(dropped, v[own], out=attended[own])
            _merge_rows(attended, group.queries, query_lengths, heads, out, factor=factor)
            saved += [q, k, v, probs]
        ctx.plan, ctx.virtual = plan, virtual
        tensors = (query, key, value, prefix_key, prefix_value)
        ctx.shapes = [None if x is None else x.shape for x in tensors]
        ctx.save_for_backward(*saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Gradients of queries, keys, values and prefixes, where they are needed."""
        plan: AttentionPlan = ctx.plan
        heads, virtual, dropping = plan.heads, ctx.virtual, plan.dropout is not None
        needs = ctx.needs_input_grad[:5]
        gradients = [torch.empty(s) if w else None for s, w in zip(ctx.shapes, needs, strict=True)]
        d_query, *d_rows = gradients[:3]
        d_prefixes = gradients[3:]
        of_keys, of_values = (
            needs[1] or needs[3],
            needs[2] or needs[4],
        )
        # Here sooner than on the probabilities, which are more.
        factor = 1.0 if plan.dropout is None else keep_scale(plan.dropout.p)
        for number, group in enumerate(plan.groups):
            q, k, v, probs = ctx.saved_tensors[4 * number : 4 * number + 4]
            query_lengths, key_lengths = _group_lengths(group, plan)
            g = _split_rows(gradient, group.queries, query_lengths, heads, factor=factor)
            step, scratch = _scratch(probs, heads, dropping)
            d_probs = torch.empty_like(probs[: step * heads])
            d_q, d_k, d_v = (
                torch.empty_like(x) if w else None
                for x, w in ((q, needs[0]), (k, of_keys), (v, of_values))
            )
            for first in range(0, len(query_lengths), step):
                some = slice(first, first + step)
                own = slice(first * heads, (first + step) * heads)
                part = probs[own]
                dropped = scratch[: len(part)] if dropping else part
                d_part = d_probs[: len(part)]
                torch.bmm(g[own], v[own].mT, out=d_part)
                softmax.backward(
                    part.numpy(), d_part.numpy(), dropped.numpy(), query_lengths[some],
                    key_lengths[some], heads, virtual, np.float32(plan.scaling), dropping,
                )  # fmt: skip
                products = ((d_q, d_part, k), (d_k, d_part.mT, q), (d_v, dropped.mT, g))
                for out, one, other in products:
                    if out is not None:
                        torch.bmm(one, other[own], out=out[own])
            if d_q is not None:
                _merge_rows(d_q, group.queries, query_lengths, heads, d_query)
            for blocks, rows, prefix in zip((d_k, d_v), d_rows, d_prefixes, strict=True):
                if blocks is not None and rows is not None:
                    _merge_rows(blocks, group.keys, key_lengths, heads, rows, virtual=virtual)
                if blocks is not None and prefix is not None:
                    places = _prefix_positions(blocks, heads, virtual)
                    _prefix_heads(prefix, group, heads).copy_(places)
        return *gradients, None


def _group_lengths(group: AttentionGroup, plan: AttentionPlan) -> tuple[Any, Any]:
    """Numbers of queries and of keys of each sequence of a group; (sequences,) each."""
    own = slice(group.start, group.stop)
    lengths = (np.array(x[own], np.int64) for x in (plan.query_lengths, plan.key_lengths))
    query_lengths, key_lengths = lengths
    return query_lengths, key_lengths


def _scratch(probs: Tensor, heads: int, dropping: bool) -> tuple[int, Tensor]:
    """How many sequences are computed at once, and room for their probabilities behind dropout.

    Their scores fill whole words of random bits, so that the next ones go on where they ended.
    """
    per_sequence = heads * probs.shape[1] * probs.shape[2]
    whole = 4 // gcd(per_sequence, 4)
    step = max(1, SCORES_PER_STEP // (per_sequence * whole)) * whole
    return step, torch.empty_like(probs[: step * heads]) if dropping else probs[:0]


def _split_rows(
    x: Tensor, side: RowBlock, lengths: Any, heads: int, *, virtual: int = 0, factor: float = 1.0
) -> Tensor:
    """(rows, width) -> (sequences * heads, virtual + length, width of a head)."""
    out = torch.empty(len(lengths) * heads, virtual + side.length, x.shape[1] // heads)
    split_heads(
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
    merge_heads(
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
