"""Products with trained matrices, which keep no copy of the matrix for the backward pass.

Autocast casts every trained matrix in a pass, and autograd keeps the copy until the backward pass
is through with the layer: in bf16 2 bytes for each parameter, beside 16 for the weight, its
gradient and AdamW's two moments. Here the matrix is cast again in the backward pass: the same
numbers to rounding. A gated feed-forward part does not keep what its last matrix reads either: that
is computed again from its two factors.
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


def cast_in_both_passes(changes: ModelChanges, model: nn.Module) -> None:
    """Let the linear layers whose weight is trained cast it in the backward pass again.

    Layers that have a forward pass of their own keep it.
    """
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
    out: Tensor = _Product.apply(x, weight, bias, dtype)  # type: ignore[no-untyped-call]
    return out


class _Product(torch.autograd.Function):
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
    """That of W from the gradient of x W^T, (..., out), and x, (..., in): of W's shape and type."""
    return torch.mm(gradient.flatten(0, -2).mT, rows.flatten(0, -2)).to(weight.dtype)


Activate = Callable[[Tensor], Tensor]
ActivateBackward = Callable[[Tensor, Tensor], Tensor]
"""From the gradient of an activation's output and its input to the gradient of the input."""


def gated_product(
    gate: Tensor, up: Tensor, weight: Tensor, activate: Activate, backward: ActivateBackward
) -> Tensor:
    """(f(gate) * up) W^T with a trained W; gate, up and W are kept.

    Shapes: ``gate`` and ``up`` (..., inner), ``weight`` (width, inner); the result (..., width).
    """
    arguments = (gate, up, weight, activate, backward)
    out: Tensor = _GatedProduct.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


class _GatedProduct(torch.autograd.Function):
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
    """Those of gate and up from that of f(gate) * up; ``activated``: f(gate)."""
    d_up = (activated * gradient).to(up.dtype)
    return backward((gradient * up).to(gate.dtype), gate), d_up
