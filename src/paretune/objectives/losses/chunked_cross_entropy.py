"""The loss of the next word, without ever holding the scores of all words for all tokens.

Equations: z = W h + b and loss = log(sum_v exp z_v) - (1 - e) z_y - e mean_v z_v, with label
smoothing e (Szegedy et al. 2015, arXiv:1512.00567, section 7), as torch's ``cross_entropy``; its
gradient to z is softmax(z) - (1 - e) [v = y] - e / V.

It is computed for some tokens at a time, so that their scores stay where the processor is quick
(Wijmans et al. 2024, arXiv:2411.09009, and Hsu et al. 2024, arXiv:2410.10989, do so on GPUs): the
gradient to z is made at once, goes through W and is forgotten. With 8,001 words it takes half of
the time of a loss over all scores, and the scores are no part of the peak (docs/log.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_SCORES = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Scores of a piece, unless that are fewer tokens than below."""
MIN_CHUNK_TOKENS = 128
"""Fewer tokens make products with many words slow: each reads all of W."""


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tokens: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The summed loss in nats of these tokens, each told by its hidden state.

    Shapes: ``hidden`` (tokens, width), ``weight`` (words, width), ``bias`` (words,), ``tokens``
    (tokens,). Computed in the precision of autocast, summed in fp32 or finer. No gradient goes to
    the bias.
    """
    found: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, tokens, label_smoothing)  # type: ignore[no-untyped-call]
    return found


def chunk_tokens(words: int, device: str) -> int:
    """How many tokens are scored at a time."""
    return max(MIN_CHUNK_TOKENS, CHUNK_SCORES["cpu" if device == "cpu" else "cuda"] // words)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        smoothing: float,
    ) -> Tensor:
        kind = hidden.device.type
        asked = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if to_hidden else None
        d_weight = torch.zeros_like(weight) if to_weight else None
        with torch.autocast(kind, enabled=False):
            table = weight.to(asked)
            total = hidden.new_zeros((), dtype=torch.promote_types(asked, torch.float32))
            size = chunk_tokens(len(weight), kind)
            for start in range(0, len(tokens), size):
                place = slice(start, start + size)
                states, right = hidden[place].to(asked), tokens[place, None]
                z = torch.mm(states, table.mT).to(total.dtype)
                if bias is not None:
                    z += bias
                z -= z.amax(1, keepdim=True)
                wanted = z.gather(1, right)[:, 0]
                mean = z.mean(1) if smoothing else 0.0
                norm = z.exp_().sum(1)
                total += (norm.log() - (1 - smoothing) * wanted - smoothing * mean).sum()
                if not to_hidden and not to_weight:
                    continue
                z /= norm[:, None]
                if smoothing:
                    z -= smoothing / len(weight)
                z.scatter_add_(1, right, z.new_full(right.shape, smoothing - 1))
                d_z = z.to(asked)
                if d_hidden is not None:
                    d_hidden[place] = torch.mm(d_z, table)
                if d_weight is not None and d_weight.dtype == asked:
                    d_weight.addmm_(d_z.mT, states)
                elif d_weight is not None:
                    d_weight += torch.mm(d_z.mT, states)
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        d_hidden, d_weight = (
            None if made is None else made * gradient.to(made.dtype) for made in ctx.saved_tensors
        )
        return d_hidden, d_weight, None, None, None
