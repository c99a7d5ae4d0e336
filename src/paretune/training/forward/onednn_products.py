"""Products of linear layers in fp32 by oneDNN, on processors where torch's own are slower.

torch gives fp32 products on x86 to MKL, which takes its fastest kernels on Intel's processors only:
on an AMD Zen 5 they reach 92 GFLOP/s where oneDNN reaches 201. The two differ by rounding.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paretune.measuring.machine import time_once
from paretune.measuring.processor import read_vendor
from paretune.models.changes import ModelChanges

PROBE_SHAPE = (256, 384, 384)
"""Rows, inputs and outputs of the products that are timed; two milliseconds each at most."""
TURNS = 8
"""Times that each is timed, the first of which also loads its kernel."""
LEAST_GAIN = 1.1
"""How many times as fast oneDNN must be."""


def use_onednn_products(changes: ModelChanges, model: nn.Module) -> None:
    """Let the linear layers use oneDNN; those with a forward pass of their own keep it."""
    for module in model.modules():
        fp32 = type(module) is nn.Linear and module.weight.dtype == torch.float32
        if fp32 and "forward" not in vars(module):
            changes.set(module, "forward", partial(_forward, module))


@cache
def is_onednn_faster() -> bool:
    """Whether a probe finds oneDNN faster by a tenth.

    Intel's processors are not probed: MKL is at home there, the two are close, and a probe that
    falls now to this side and now to that would change the rounding of a run from day to day.
    """
    has_product = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # not in a build without oneDNN
    if not has_product or read_vendor() in ("", "GenuineIntel"):
        return False
    generator = torch.Generator().manual_seed(0)
    rows, inputs, outputs = PROBE_SHAPE
    x = torch.randn(rows, inputs, generator=generator)
    weight = torch.randn(outputs, inputs, generator=generator)
    usual, onednn = partial(F.linear, x, weight), partial(_multiply, x, weight)
    # In turn, and the fastest of each: what else the machine does only makes one longer.
    turns = [(time_once(usual, "cpu"), time_once(onednn, "cpu")) for _ in range(TURNS)]
    usual_seconds, onednn_seconds = map(min, zip(*turns, strict=True))
    return bool(usual_seconds > LEAST_GAIN * onednn_seconds)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not (x.numel() and weight.numel()):  # oneDNN has no product without rows
        return F.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _forward(layer: Any, x: Tensor) -> Tensor:
    out: Tensor = _OneDnnProduct.apply(x, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
    return out


class _OneDnnProduct(torch.autograd.Function):
    """x W^T + b; x (..., in), W (out, in), b (out,) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_x = d_weight = d_bias = None
        rows = gradient.reshape(-1, len(weight))
        if ctx.needs_input_grad[0]:
            d_x = _multiply(gradient, weight.mT)
        if ctx.needs_input_grad[1]:
            d_weight = _multiply(rows.mT, x.reshape(-1, x.shape[-1]).mT)
        if ctx.needs_input_grad[2]:
            d_bias = rows.sum(0)
        return d_x, d_weight, d_bias
