"""Linear layers whose frozen weight is held in 4 or 8 bits.

``nf4``: 4-bit NormalFloat in blocks of 64 with double quantisation of the blocks' scales in groups
of 256 (Dettmers et al. 2023, QLoRA, arXiv:2305.14314, sections 3 and 4): 4.13 bits a weight.
``int8``: one scale for each row, its largest absolute value over 127 (Dettmers et al. 2022,
LLM.int8(), arXiv:2208.07339, equation 2): 8 bits a weight and 32 a row.

Both are storage alone: products are computed with the dequantised matrix, in the precision of the
run (QLoRA's compute dtype), in training, evaluation and the backward pass alike, so a step is the
gradient of what is evaluated. The 8-bit layers of ``bitsandbytes`` quantise the activations too,
and its 4-bit layers evaluate by another kernel on some processors: the stored numbers are theirs,
the products are not.
"""

from __future__ import annotations

import importlib
import logging
import sys
from abc import abstractmethod
from functools import cache
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.errors import MissingDependencyError
from paretune.study.specs import Quantisation

_BLOCK, _GROUP = 64, 256
_CHUNK = 2**18
"""Weights that are quantised at once: their copy in fp32 must not be as large as the model."""

logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # see _functional


class QuantisedLinear(nn.Linear):
    """A frozen linear layer, its weight packed into buffers.

    ``weight`` is the dequantised matrix, a new tensor whenever it is asked for: what is written
    into it is lost, and it cannot be assigned. Take :func:`dequantise` before merging.
    """

    packed: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make a weight
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_parameter("bias", layer.bias)
        self.training = layer.training

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The dequantised matrix in fp32, (out, in)."""
        return self.dequantise(torch.float32)

    @abstractmethod
    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The matrix, (out, in), computed in fp32 and rounded to ``dtype`` once."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype of autocast where it is on."""
        return self.product(x, self.bias)

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``W x + bias``; nothing of W in full precision is kept for the backward pass."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        bias = None if bias is None else bias.to(dtype)
        with torch.autocast(kind, enabled=False):
            apply: Any = _Product.apply
            out: Tensor = apply(x.to(dtype), bias, self)
        return out


class _Product(torch.autograd.Function):
    """A product with a matrix that is dequantised in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dequantise(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ ctx.layer.dequantise(gradient.dtype)
        if ctx.needs_input_grad[1]:
            of_bias = gradient.flatten(0, -2).sum(0)
        return of_x, of_bias, None


class Nf4Linear(QuantisedLinear):
    """``packed`` (out * in / 2,), ``scales`` (blocks,) in 8 bits, ``group_scales`` in fp32."""

    scales: Tensor
    group_scales: Tensor
    scale_offset: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        functional, weight = _functional(), layer.weight.detach()
        # Whole blocks at a time; a row need not be whole blocks.
        unit = _BLOCK // gcd(_BLOCK, weight.shape[1])
        rows = max(unit, _CHUNK // weight.shape[1] // unit * unit)
        pieces = [functional.quantize_4bit(w, quant_type="nf4") for w in torch.split(weight, rows)]
        scales = torch.cat([state.absmax for _, state in pieces])
        offset = scales.mean()
        codes, state = functional.quantize_blockwise(scales - offset, blocksize=_GROUP)
        self.register_buffer("packed", torch.cat([piece.reshape(-1) for piece, _ in pieces]))
        self.register_buffer("scales", codes)
        self.register_buffer("group_scales", state.absmax)
        self.register_buffer("scale_offset", offset)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """See :meth:`QuantisedLinear.dequantise`."""
        functional = _functional()
        groups = functional.QuantState(
            self.group_scales.float(), blocksize=_GROUP, code=_scale_code(self.scales.device),
            dtype=torch.float32,
        )  # fmt: skip
        exact = dtype if dtype in (torch.bfloat16, torch.float16) else torch.float32
        state = functional.QuantState(
            self.scales, (self.out_features, self.in_features), blocksize=_BLOCK, quant_type="nf4",
            dtype=exact, offset=self.scale_offset.float(), state2=groups,
        )  # fmt: skip
        matrix: Tensor = functional.dequantize_4bit(self.packed[:, None], state)
        return matrix.to(dtype)


class Int8Linear(QuantisedLinear):
    """``packed`` (out, in) in 8 bits, ``scales`` (out, 1) in fp32."""

    scales: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        weight = layer.weight.detach()
        packed = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        scales = torch.empty(len(weight), 1, dtype=torch.float32, device=weight.device)
        rows = max(1, _CHUNK // weight.shape[1])
        for weights, numbers, scale in zip(
            *(torch.split(tensor, rows) for tensor in (weight, packed, scales)), strict=True
        ):
            wide = weights.float()
            scale.copy_(wide.abs().amax(1, keepdim=True) / 127)
            # A row of zeros has scale 0, and stays zeros.
            numbers.copy_((wide / scale.clamp(min=torch.finfo(torch.float32).tiny)).round_())
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """See :meth:`QuantisedLinear.dequantise`."""
        return self.packed.to(dtype).mul_(self.scales)


@cache
def _scale_code(device: torch.device) -> Tensor:
    """The 256 numbers that the 8 bits of a block's scale stand for."""
    code: Tensor = _functional().create_dynamic_map().to(device)
    return code


_LAYERS: dict[Quantisation, type[QuantisedLinear]] = {"nf4": Nf4Linear, "int8": Int8Linear}


def quantise(layer: nn.Linear, quantisation: Quantisation) -> QuantisedLinear:
    """The layer with its weight quantised; the bias is the same tensor.

    Raises:
        MissingDependencyError: nf4 without ``bitsandbytes``.
    """
    return _LAYERS[quantisation](layer)


def quantised_bytes(layer: nn.Linear, quantisation: Quantisation) -> int:
    """Bytes of the layer's weight when it is quantised; on meta too."""
    weights = layer.in_features * layer.out_features
    if quantisation == "int8":
        return weights + 4 * layer.out_features
    blocks = -(-weights // _BLOCK)
    return -(-weights // 2) + blocks + 4 * -(-blocks // _GROUP) + 4


def dequantise(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Make plain linear layers of the quantised ones, in place, with what stands beside them.

    Their weights are the rounded ones, so logits stay as they are, but for rounding to ``dtype``.
    """
    for layer in model.modules():
        if isinstance(layer, QuantisedLinear):
            weight = nn.Parameter(layer.dequantise(dtype), requires_grad=False)
            layer._buffers.clear()
            plain: Any = layer
            plain.__class__ = nn.Linear  # the same object: adapters and hooks are its own
            plain._parameters = {"weight": weight, **layer._parameters}


def is_quantised(model: nn.Module) -> bool:
    """Whether any of its layers is."""
    return any(isinstance(module, QuantisedLinear) for module in model.modules())


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, those of quantised layers included; shared ones once."""
    packed = sum(
        layer.in_features * layer.out_features
        for layer in model.modules()
        if isinstance(layer, QuantisedLinear)
    )
    return packed + sum(parameter.numel() for parameter in model.parameters())


def base_product(layer: nn.Linear, x: Tensor) -> Tensor:
    """``W x`` of a frozen layer without its bias, (..., in) -> (..., out)."""
    if isinstance(layer, QuantisedLinear):
        return layer.product(x, None)
    return F.linear(x, layer.weight)


def require_backend(quantisation: Quantisation | None, where: str) -> None:
    """Check that what quantises is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    if quantisation == "nf4":
        _functional(where)


def _functional(where: str = "") -> Any:
    """``bitsandbytes.functional``.

    Where the package ``kernels`` is installed too, ``bitsandbytes`` fetches native code from the
    hub when it is imported, and says so in a warning where it is not. We need none of it.
    """
    module = sys.modules.get("bitsandbytes.functional")
    if module is not None:
        return module
    hidden = "kernels" not in sys.modules
    try:
        if hidden:
            modules: dict[str, Any] = sys.modules
            modules["kernels"] = None  # an import says that it is missing
        return importlib.import_module("bitsandbytes.functional")
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"nf4 needs the package bitsandbytes, which cannot be imported ({error}).",
            where=where,
            remedy="Install it: pip install bitsandbytes.",
        ) from None
    finally:
        if hidden:
            sys.modules.pop("kernels", None)
