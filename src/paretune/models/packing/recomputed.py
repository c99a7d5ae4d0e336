"""Operations of a decoder that keep little for the backward pass, and compute it again.

Trained products: autocast casts every trained matrix in a pass, and autograd keeps the copy until
the backward pass is through with the layer: in bf16 2 bytes for each parameter, beside 16 for the
weight, its gradient and AdamW's two moments. Here the matrix is cast again in the backward pass.

Normalisations and gated activations: written out operation by operation, as model files have them,
root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4) keeps three
copies of its input for autograd, most of them in fp32, and a gated feed-forward part (Shazeer 2020,
arXiv:2002.05202, equation 5) four tensors of its inner width. Here each is one node that keeps its
inputs; a gated part does not keep what its last matrix reads either.

A tied table: the loss over the vocabulary gives the whole matrix a gradient, and looking words up
gives some of its rows one. Autograd makes a second matrix of these rows and a third of the sum:
with 262,144 words of width 640 (Gemma 3 270M) 1.3 GB more. Here the rows are added to the first in
place.

All give the same numbers to rounding. Layers that have a forward pass of their own keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.changes import ModelChanges
from paretune.models.packing.layout import Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.models.weight_storage import embed_rows


def cast_in_both_passes(changes: ModelChanges, model: nn.Module) -> None:
    """Let the linear layers whose weight is trained cast it in the backward pass again."""
    for module in model.modules():
        if is_trained_matrix(module) and "forward" not in vars(module):
            changes.set(module, "forward", partial(_forward, module))


def is_trained_matrix(layer: Any) -> bool:
    """Whether it is a linear layer and nothing else, whose weight is trained."""
    return type(layer) is nn.Linear and layer.weight.requires_grad


def product_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The precision of a product: that of autocast, or of the weight where there is none."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _forward(layer: Any, x: Tensor) -> Tensor:
    weight, bias = layer.weight, layer.bias
    dtype = product_dtype(x, weight)
    if dtype == weight.dtype or not weight.requires_grad or not torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    out: Tensor = _CastProduct.apply(x, weight, bias, dtype)  # type: ignore[no-untyped-call]
    return out


class _CastProduct(torch.autograd.Function):
    """x W^T + b in ``dtype``; x (..., in), W (out, in), b (out,) or None."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        ctx.x_dtype, ctx.bias_dtype = x.dtype, None if bias is None else bias.dtype
        with torch.autocast(x.device.type, enabled=False):
            rows = x.to(dtype)
            ctx.save_for_backward(rows, weight)
            return F.linear(rows, weight.to(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        rows, weight = ctx.saved_tensors
        d_x = d_bias = None
        if ctx.needs_input_grad[0]:
            d_x = torch.matmul(gradient, weight.to(gradient.dtype)).to(ctx.x_dtype)
        if ctx.needs_input_grad[2]:
            d_bias = gradient.flatten(0, -2).sum(0).to(ctx.bias_dtype)
        return d_x, weight_gradient(gradient, rows, weight), d_bias, None


def weight_gradient(gradient: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """The gradient of W, of its shape and type, from that of x W^T, (..., out), and x (..., in)."""
    return torch.mm(gradient.flatten(0, -2).mT, rows.flatten(0, -2)).to(weight.dtype)


Activate = Callable[[Tensor], Tensor]
ActivateBackward = Callable[[Tensor, Tensor], Tensor]
"""A function of the gradient of an activation's output and of its input to the input's gradient."""


class _GatedProduct(torch.autograd.Function):
    """(f(gate) * up) W^T with a trained W; gate, up and W are kept.

    Shapes: ``gate`` and ``up`` (..., inner), ``weight`` (width, inner); the result (..., width).
    """

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        weight: Tensor,
        activate: Activate,
        backward: ActivateBackward,
    ) -> Tensor:
        dtype = product_dtype(gate, weight)
        ctx.save_for_backward(gate, up, weight)
        ctx.activate, ctx.backward_of, ctx.dtype = activate, backward, dtype
        with torch.autocast(gate.device.type, enabled=False):
            return F.linear((activate(gate) * up).to(dtype), weight.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        gate, up, weight = ctx.saved_tensors
        activated = ctx.activate(gate)
        d_weight = weight_gradient(gradient, (activated * up).to(ctx.dtype), weight)
        d_inner = torch.matmul(gradient, weight.to(gradient.dtype))
        d_gate, d_up = gated_gradients(d_inner, gate, up, activated, ctx.backward_of)
        return d_gate, d_up, d_weight, None, None


def gated_gradients(
    gradient: Tensor, gate: Tensor, up: Tensor, activated: Tensor, backward: ActivateBackward
) -> tuple[Tensor, Tensor]:
    """The gradients of gate and up from that of f(gate) * up; ``activated`` is f(gate)."""
    d_up = (activated * gradient).to(up.dtype)
    return backward((gradient * up).to(gate.dtype), gate), d_up


_NORMS = {
    "Gemma2RMSNorm": ("eps", 1.0),
    "Gemma3RMSNorm": ("eps", 1.0),
    "LlamaRMSNorm": ("variance_epsilon", 0.0),
    "MistralRMSNorm": ("variance_epsilon", 0.0),
    "Phi3RMSNorm": ("variance_epsilon", 0.0),
    "Qwen2RMSNorm": ("variance_epsilon", 0.0),
    "Qwen3RMSNorm": ("variance_epsilon", 0.0),
}
"""Classes of ``transformers``: what epsilon is called, and what is added to the weight."""
_ACTIVATIONS: dict[str, tuple[Activate, ActivateBackward]] = {
    "silu": (F.silu, torch.ops.aten.silu_backward),
    "gelu_pytorch_tanh": (
        partial(F.gelu, approximate="tanh"),
        partial(torch.ops.aten.gelu_backward, approximate="tanh"),
    ),
}
"""Activations of gated feed-forward parts and their backward passes."""
_GATED = ("Gemma2MLP", "Gemma3MLP", "LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")
"""Classes with ``gate_proj``, ``up_proj``, ``down_proj`` and ``act_fn``."""


def fuse_rows(changes: ModelChanges, model: nn.Module, anatomy: Anatomy) -> None:
    """Compute the normalisations and gated feed-forward parts of a decoder in one node each."""
    read_by_linear = set()  # normalisations whose output only linear layers read
    for layer in anatomy.layers:
        is_gemma = hasattr(model.get_submodule(layer.name), "pre_feedforward_layernorm")
        second = "pre_feedforward_layernorm" if is_gemma else "post_attention_layernorm"
        read_by_linear |= {f"{layer.name}.input_layernorm", f"{layer.name}.{second}"}
    for name, module in model.named_modules():
        if "forward" in vars(module):
            continue
        kind = type(module).__name__
        if kind in _NORMS:
            epsilon, added = _NORMS[kind]
            settings = (module, getattr(module, epsilon), added, name in read_by_linear)
            changes.set(module, "forward", partial(_normalise, *settings))
        elif kind in _GATED:
            called = getattr(module.config, "hidden_activation", None) or module.config.hidden_act
            if called in _ACTIVATIONS:
                feed_forward = partial(_feed_forward, module, _ACTIVATIONS[called])
                changes.set(module, "forward", feed_forward)


def _normalise(module: Any, epsilon: float, added: float, feeds_linear: bool, x: Tensor) -> Tensor:
    """X / sqrt(mean(x^2) + epsilon) * (weight + added); (..., width) -> the same shape.

    ``feeds_linear``: under autocast its output is rounded here, once, as each of the linear layers
    that read it would.
    """
    weight = module.weight
    dtype = x.dtype if added else torch.promote_types(x.dtype, weight.dtype)
    if feeds_linear and not module._forward_hooks and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    out: Tensor = _RmsNorm.apply(x, weight, epsilon, added, dtype)  # type: ignore[no-untyped-call]
    return out


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, epsilon: float, added: float, dtype: torch.dtype
    ) -> Tensor:
        wide = _wide(x)
        size: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = (size.square_() / x.shape[-1] + epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        ctx.added = added
        gain = weight.to(wide.dtype) + added if added else weight.to(wide.dtype)
        out: Tensor = (wide * scale).mul_(gain).to(dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        x, weight, scale = ctx.saved_tensors
        wide = _wide(gradient)
        normed = _wide(x) * scale
        d_x = d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = (wide * normed).flatten(0, -2).sum(0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            gain = weight.to(wide.dtype) + ctx.added if ctx.added else weight.to(wide.dtype)
            d_normed = wide * gain
            along = torch.linalg.vecdot(d_normed, normed)[..., None] / x.shape[-1]
            d_x = d_normed.addcmul_(normed, along, value=-1).mul_(scale).to(x.dtype)
        return d_x, d_weight, None, None, None


def _wide(x: Tensor) -> Tensor:
    return x if x.itemsize >= 4 else x.float()


def _feed_forward(module: Any, activation: tuple[Activate, ActivateBackward], x: Tensor) -> Tensor:
    gate, up, down = module.gate_proj(x), module.up_proj(x), module.down_proj
    hooked = down._forward_hooks or down._forward_pre_hooks
    if is_trained_matrix(down) and down.bias is None and not hooked:
        arguments = (gate, up, down.weight, *activation)
        product: Tensor = _GatedProduct.apply(*arguments)  # type: ignore[no-untyped-call]
        return product
    out: Tensor = down(_Gated.apply(gate, up, *activation))  # type: ignore[no-untyped-call]
    return out


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, up: Tensor, activate: Activate, backward: ActivateBackward
    ) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activate, ctx.backward_of = activate, backward
        return activate(gate) * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        gate, up = ctx.saved_tensors
        activated = ctx.activate(gate)
        return *gated_gradients(gradient, gate, up, activated, ctx.backward_of), None, None


RowGradients = list[tuple[Tensor, Tensor]]
"""Ids (tokens,) and gradients (tokens, width) that wait for the gradient of the whole table."""


def share_tied_table(packing: Packing, model: Any) -> None:
    """Look words up in what :attr:`Packing.word_table` then is, for the loss to read it too.

    Where the table is not tied to the output layer, or not trained, nothing is changed.
    """
    table, lm_head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = lm_head is not None and lm_head.weight is table.weight
    if tied and table.weight.requires_grad and isinstance(table, nn.Embedding):
        packing.changes.set(table, "forward", partial(_look_up, table, packing))


def _look_up(table: nn.Embedding, packing: Packing, ids: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        waiting: RowGradients = []
        packing.word_table = _Table.apply(table.weight, waiting)  # type: ignore[no-untyped-call]
        arguments = (packing.word_table, ids.flatten(), table.padding_idx, waiting)
        rows = _Rows.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        packing.word_table = None
        rows = F.embedding(ids.flatten(), table.weight)
    return embed_rows(table, rows).reshape(*ids.shape, -1)


class _Table(torch.autograd.Function):
    """The table itself, whose gradient is complete once all that read it have given theirs."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, waiting: RowGradients) -> Tensor:
        ctx.waiting, ctx.shape = waiting, weight.shape
        ctx.set_materialize_grads(False)
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Any, ...]:
        while ctx.waiting:
            ids, of_rows = ctx.waiting.pop()
            if gradient is None:
                gradient = of_rows.new_zeros(ctx.shape)
            gradient.index_put_((ids,), of_rows.to(gradient.dtype), accumulate=True)
        return gradient, None


class _Rows(torch.autograd.Function):
    """The rows of some tokens, (tokens, width), whose gradient waits for that of the table."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, ids: Tensor, padding: int | None, waiting: RowGradients
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.waiting = padding, waiting
        return F.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        (ids,) = ctx.saved_tensors
        if ctx.padding is not None:  # its row is not trained
            gradient = gradient * (ids != ctx.padding)[:, None]
        ctx.waiting.append((ids, gradient))
        return None, None, None, None
