"""Cross-entropy over a large vocabulary, without logits of all tokens at once.

Equations: z = W h + b and loss = log(sum_v exp z_v) - (1 - e) z_y - e mean_v z_v, with label
smoothing e (Szegedy et al. 2015, arXiv:1512.00567, section 7), as torch's ``cross_entropy``; its
gradient to z is softmax(z) - (1 - e) [v = y] - e / V. With a cap c (Gemma 2: Riviere et al. 2024,
arXiv:2408.00118, section 2) z is c tanh((W h + b) / c), and the gradient to W h is that to z times
1 - (z / c)^2.

It is computed for a chunk of tokens at a time, whose logits stay in the processor's cache (Wijmans
et al. 2024, arXiv:2411.09009, and Hsu et al. 2024, arXiv:2410.10989, do so on GPUs): the gradient
to z is computed with the loss, multiplied by W and dropped. With a vocabulary of 8,001 it takes
half the time of a loss over all logits, which are no part of the memory peak (dev/log.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_SCORES = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Logits of a chunk, unless that are fewer tokens than below."""
MIN_CHUNK_TOKENS = 64
"""Smaller chunks are slow with a large vocabulary: each reads all of W."""
EFFICIENT_TOKENS, EFFICIENT_SCORES = 128, 1 << 23
"""A chunk of so many tokens takes a seventh less time than one of 64, if it has fewer logits than
``EFFICIENT_SCORES`` (32 MiB in fp32), which 262,144 words exceed."""

BLOCK_WORDS = 4096
"""Words whose part of the gradient of W is computed at once in a lower precision than W's."""


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tokens: Tensor,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    token_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the tokens given their hidden states, in nats: the sum, and each token's.

    Computed in the precision of autocast, summed in fp32 or finer. The bias gets no gradient, and
    the losses of single tokens give none.

    Shapes: ``hidden`` (tokens, width), ``weight`` (vocabulary, width), ``bias`` (vocabulary,),
    ``tokens`` (tokens,), ``token_weights`` (tokens,) of each loss.
    """
    arguments = (hidden, weight, bias, tokens, label_smoothing, softcap, token_weights)
    losses: tuple[Tensor, Tensor]
    losses = _ChunkedCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    return losses


def chunk_tokens(vocabulary: int, device: str) -> int:
    """Tokens of a chunk."""
    efficient = min(EFFICIENT_TOKENS, EFFICIENT_SCORES // vocabulary)
    scores = CHUNK_SCORES["cpu" if device == "cpu" else "cuda"]
    return max(MIN_CHUNK_TOKENS, efficient, scores // vocabulary)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        smoothing: float,
        softcap: float | None,
        token_weights: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else weight.dtype
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if to_hidden else None
        d_weight = torch.zeros_like(weight) if to_weight else None
        with torch.autocast(device, enabled=False):
            table = weight.to(dtype)
            total = hidden.new_zeros((), dtype=torch.promote_types(dtype, torch.float32))
            each = total.new_empty(len(tokens))
            size = chunk_tokens(len(weight), device)
            if to_weight:  # each chunk goes through the whole gradient of W
                size = max(size, EFFICIENT_TOKENS)
            for start in range(0, len(tokens), size):
                place = slice(start, start + size)
                states, labels = hidden[place].to(dtype), tokens[place, None]
                z = torch.mm(states, table.mT).to(total.dtype)
                if bias is not None:
                    z += bias
                slope = None
                if softcap is not None:
                    z = z.div_(softcap).tanh_()
                    slope = 1 - z.square()
                    z *= softcap
                z -= z.amax(1, keepdim=True)
                label_z = z.gather(1, labels)[:, 0]
                mean = z.mean(1) if smoothing else 0.0
                norm = z.exp_().sum(1)
                losses = norm.log() - (1 - smoothing) * label_z - smoothing * mean
                if token_weights is not None:
                    losses = losses * token_weights[place]
                each[place] = losses
                total += losses.sum()
                if not to_hidden and not to_weight:
                    continue
                z /= norm[:, None]
                if smoothing:
                    z -= smoothing / len(weight)
                z.scatter_add_(1, labels, z.new_full(labels.shape, smoothing - 1))
                if token_weights is not None:
                    z *= token_weights[place, None]
                d_z = (z if slope is None else z.mul_(slope)).to(dtype)
                if d_hidden is not None:
                    d_hidden[place] = torch.mm(d_z, table)
                if d_weight is not None and d_weight.dtype == dtype:
                    d_weight.addmm_(d_z.mT, states)
                elif d_weight is not None:
                    for words in range(0, len(d_weight), BLOCK_WORDS):
                        block = slice(words, words + BLOCK_WORDS)
                        d_weight[block] += torch.mm(d_z[:, block].mT, states)
                del z, d_z  # else they stay while those of the next chunk are made
        ctx.save_for_backward(d_hidden)
        # It is as large as the vocabulary, so it is handed over and not copied: a saved tensor
        # would live on until the node is gone.
        ctx.d_weight, ctx.has_d_weight = d_weight, d_weight is not None
        ctx.mark_non_differentiable(each)
        return total, each

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
        (d_hidden,) = ctx.saved_tensors
        d_weight, ctx.d_weight = ctx.d_weight, None
        if ctx.has_d_weight and d_weight is None:
            raise RuntimeError("the gradient of the matrix is handed over once: compute it anew")
        if d_weight is not None:
            d_weight.mul_(gradient.to(d_weight.dtype))
        if d_hidden is not None:
            d_hidden = d_hidden * gradient.to(d_hidden.dtype)
        return d_hidden, d_weight, None, None, None, None, None
