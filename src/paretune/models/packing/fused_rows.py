"""A decoder's normalisations and gated activations, with little kept for the backward pass.

Written out operation by operation, as model files have them, root mean square normalisation (Zhang
and Sennrich 2019, arXiv:1910.07467, equation 4) keeps three copies of its input for autograd, most
of them in fp32, and a gated feed-forward part (Shazeer 2020, arXiv:2002.05202, equation 5) four
tensors of its inner width. Here each is one node that keeps its inputs and computes the rest again:
the same numbers to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.models.changes import ModelChanges
from paretune.models.packing.trained_products import (
    Activate,
    ActivateBackward,
    gated_gradients,
    gated_product,
    is_trained_matrix,
)
from paretune.models.structure.anatomy import Anatomy

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
_GATED = ("Gemma2MLP", "Gemma3MLP", "LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")
"""Classes with ``gate_proj``, ``up_proj``, ``down_proj`` and ``act_fn``."""


def fuse_rows(changes: ModelChanges, model: nn.Module, anatomy: Anatomy) -> None:
    """Compute the normalisations and gated feed-forward parts of a decoder in one node each.

    Where a method has a forward pass of its own in their place, that stays.
    """
    read_by_linear = {
        f"{layer.name}.{name}"
        for layer in anatomy.layers
        for name in _norms_before_linear(model, layer.name)
    }
    for name, module in model.named_modules():
        if "forward" in vars(module):
            continue
        kind = type(module).__name__
        if kind in _NORMS:
            epsilon, added = _NORMS[kind]
            norm = _Norm(module, getattr(module, epsilon), added, name in read_by_linear)
            changes.set(module, "forward", norm.forward)
        elif kind in _GATED:
            activation = _derivative_of(module)
            if activation is not None:
                changes.set(module, "forward", partial(_feed_forward, module, activation))


def _norms_before_linear(model: nn.Module, layer: str) -> tuple[str, ...]:
    """The normalisations of a layer whose output only linear layers read."""
    if hasattr(model.get_submodule(layer), "pre_feedforward_layernorm"):  # Gemma
        return ("input_layernorm", "pre_feedforward_layernorm")
    return ("input_layernorm", "post_attention_layernorm")


@dataclass(frozen=True)
class _Norm:
    """One normalisation: x / sqrt(mean(x^2) + epsilon) * (weight + added).

    ``feeds_linear``: under autocast its output is rounded here, once, as each of the linear layers
    that read it would.
    """

    module: Any
    epsilon: float
    added: float
    feeds_linear: bool

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        weight = self.module.weight
        dtype = x.dtype if self.added else torch.promote_types(x.dtype, weight.dtype)
        hooked = self.module._forward_hooks
        if self.feeds_linear and not hooked and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        arguments = (x, weight, self.epsilon, self.added, dtype)
        out: Tensor = _RmsNorm.apply(*arguments)  # type: ignore[no-untyped-call]
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


def _derivative_of(module: Any) -> tuple[Activate, ActivateBackward] | None:
    """The activation of a gated feed-forward part and its backward pass; None: one unknown here."""
    name = getattr(module.config, "hidden_activation", None) or module.config.hidden_act
    if name == "silu":
        return F.silu, torch.ops.aten.silu_backward
    if name == "gelu_pytorch_tanh":
        return (
            partial(F.gelu, approximate="tanh"),
            partial(torch.ops.aten.gelu_backward, approximate="tanh"),
        )
    return None


def _feed_forward(module: Any, activation: tuple[Activate, ActivateBackward], x: Tensor) -> Tensor:
    gate, up, down = module.gate_proj(x), module.up_proj(x), module.down_proj
    hooked = down._forward_hooks or down._forward_pre_hooks
    if is_trained_matrix(down) and down.bias is None and not hooked:
        return gated_product(gate, up, down.weight, *activation)
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
