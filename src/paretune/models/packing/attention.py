"""Softmax attention over packed sequences: no query meets a key of another sequence, or padding.

Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1, with dropout on the shares. Forward and
backward are written out for all sequences of a batch, group by group, so that autograd keeps one
node; the shares are kept for the backward pass, and what dropout took is drawn once more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.packing.chance import blank, kept, scale
from paretune.models.packing.layout import Group, Role

NAME = "paretune_packed"
"""Under which ``transformers`` finds it. No mask is registered with it: none is made."""


def attend(
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
    """``transformers``' attention interface, for a module with a ``packing``.

    Shapes: query (rows, heads, 1, width of a head), key and value likewise; out
    (rows, 1, heads, width of a head).
    """
    heads, width = query.shape[1], query.shape[3]
    out = packed_attention(
        module,
        *(x.reshape(len(x), heads * width) for x in (query, key, value)),
        heads=heads,
        dropout=dropout,
        scaling=width**-0.5 if scaling is None else scaling,
        sliding_window=sliding_window,
    )
    return out.view(len(out), 1, heads, width), None


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    heads: int,
    dropout: float,
    scaling: float,
    role: Role = "own",
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
        front = (given[0].to(key), given[1].to(value))
    groups = packing.layout.groups(role)
    drawn = None
    if dropout > 0:
        drawn = (packing.chance.seeds, packing.chance.next(), dropout)
    return _Attention.apply(  # type: ignore[no-untyped-call,no-any-return]
        query, key, value, *front, groups, heads, scaling, drawn, sliding_window
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        front_key: Tensor | None,
        front_value: Tensor | None,
        groups: list[Group],
        heads: int,
        scaling: float,
        drawn: tuple[list[int], int, float] | None,
        window: int | None,
    ) -> Tensor:
        out = torch.empty_like(query)
        kept_shares = []
        for group in groups:
            q = _heads(group.queries.spread(query), heads)
            k = _heads(_behind(front_key, group, group.keys.spread(key)), heads)
            v = _heads(_behind(front_value, group, group.keys.spread(value)), heads)
            mask = _mask(group, heads, k.shape[1], q, window)
            scores = torch.baddbmm(mask, q, k.mT, beta=int(mask.numel() > 1), alpha=scaling)
            shares = torch.softmax(scores, -1)
            kept_shares.append(shares)
            seen, by = _seen(shares, group, drawn)
            found = torch.bmm(seen, v)
            if by != 1:
                found = found.mul_(by)
            group.queries.gather(_whole(found, heads), out)
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
        for group, shares in zip(ctx.groups, kept_shares, strict=True):
            g = _heads(_given(group, gradient), heads)
            seen, by = _seen(shares, group, ctx.drawn)
            if wanted[2] or wanted[4]:
                # One product's scale is all that dropout adds: on the smaller side of it.
                d_v = torch.bmm(seen.mT, g)
                if by != 1:
                    d_v = d_v.mul_(by)
                _part(d_v, group, heads, d_value, fronts[1])
            if not of_scores:
                continue
            v = _heads(_behind(front_value, group, group.keys.spread(value)), heads)
            d_shares = torch.bmm(g, v.mT)
            d_shares, _ = _seen(d_shares, group, ctx.drawn)
            if by != 1:
                d_shares = d_shares.mul_(by)
            d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
            if d_query is not None:
                k = _heads(_behind(front_key, group, group.keys.spread(key)), heads)
                d_q = torch.bmm(d_scores, k).mul_(scaling)
                group.queries.gather(_whole(d_q, heads), d_query)
            if d_key is not None or fronts[0] is not None:
                q = _heads(group.queries.spread(query), heads)
                d_k = torch.bmm(d_scores.mT, q).mul_(scaling)
                _part(d_k, group, heads, d_key, fronts[0])
        return d_query, d_key, d_value, *fronts, None, None, None, None, None


def _heads(x: Tensor, heads: int) -> Tensor:
    """(sequences, length, width) -> (sequences * heads, length, width of a head)."""
    n, length, width = x.shape
    return x.view(n, length, heads, width // heads).transpose(1, 2).flatten(0, 1)


def _whole(x: Tensor, heads: int) -> Tensor:
    """(sequences * heads, length, width of a head) -> (sequences, length, width)."""
    return x.view(-1, heads, *x.shape[1:]).transpose(1, 2).flatten(2)


def _behind(front: Tensor | None, group: Group, own: Tensor) -> Tensor:
    """The rows of a group's sequences behind their prefix, if there is one."""
    return own if front is None else torch.cat([front[group.first : group.last], own], 1)


def _part(
    gradient: Tensor, group: Group, heads: int, own: Tensor | None, front: Tensor | None
) -> None:
    """Give keys (or values) and their prefix each its part of a gradient."""
    whole = _whole(gradient, heads)
    virtual = whole.shape[1] - group.keys.length
    if front is not None:
        front[group.first : group.last] = whole[:, :virtual]
    if own is not None:
        group.keys.gather(whole[:, virtual:], own)


def _given(group: Group, gradient: Tensor) -> Tensor:
    """What comes back to a group's queries: nothing to a place behind the end of a sequence."""
    spread = group.queries.spread(gradient)
    if group.queries.hidden is None:
        return spread
    return spread.masked_fill(group.queries.hidden.mT, 0)


def _mask(group: Group, heads: int, keys: int, like: Tensor, window: int | None) -> Tensor:
    """What is added to the scores; of one element where nothing is hidden.

    Shape: (sequences * heads, 1 or queries, keys). Behind the end of a sequence nothing is seen,
    nor, through a window, what is ``window`` places away or more; a prefix always is.
    """
    hidden = group.keys.hidden
    virtual = keys - group.keys.length
    if window is not None and group.queries.length > 1:
        at = torch.arange(group.keys.length, device=like.device)
        far = ((at[:, None] - at[None]).abs() >= window)[None]
        hidden = far if hidden is None else hidden | far
    elif window is not None:  # the first token looks
        far = (torch.arange(group.keys.length, device=like.device) >= window)[None, None]
        hidden = far if hidden is None else hidden | far
    if hidden is None:
        return like.new_zeros(1, 1, 1)
    shut = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    shut = shut.masked_fill_(hidden, torch.finfo(like.dtype).min)
    if virtual:
        shut = nn.functional.pad(shut, (virtual, 0))
    return shut.expand(group.keys.sequences, -1, -1).repeat_interleave(heads, 0)


def _seen(
    shares: Tensor, group: Group, drawn: tuple[list[int], int, float] | None
) -> tuple[Tensor, float]:
    """What dropout leaves of the shares, and what the rest is to be multiplied by."""
    if drawn is None:
        return shares, 1.0
    seeds, place, p = drawn
    keep = kept(seeds[group.run], (place, group.number), shares.numel(), p, shares.device)
    return blank(shares, keep), scale(p)
