"""Houlsby adapters: a small bottleneck after the attention and after the feed-forward part.

Source: Houlsby et al. 2019, arXiv:1902.00751, section 2.1 (``adapters`` calls it double_seq_bn).
Equation: h <- h + U act(D h + d) + u, with h what the sublayer gives, before its residual.
Shapes: D (size, width), d (size,), U (width, size), u (width,), twice in a
layer; size = width / reduction_factor.
Trained parameters: 2 * (2 * width * size + size + width) for each layer. The paper also trains the
normalisations; like ``adapters`` and the work after it, this does not (stack it with ``bitfit``).
Start: the base model (U = 0, u = 0; D normal(0, 0.02); the paper: near the base).
Does not merge. PEFT export: none.
A decoder's attention to the source gets none, as in ``adapters``: two bottlenecks in every layer.
When: quality counts more than speed; two bottlenecks a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paretune.methods.core.initialisation import draw_normal, init_generator
from paretune.methods.core.injection import Injection, attach, get_linear
from paretune.methods.core.method import Method
from paretune.methods.core.options import LayerOptions, MethodOptions
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy

NAME = "houlsby"

Activation = Literal["gelu", "relu", "silu", "tanh"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class BottleneckOptions(MethodOptions):
    """``reduction_factor``: the width over the size of the bottleneck."""

    reduction_factor: int = Field(default=16, ge=1, le=4096)
    non_linearity: Activation = "silu"

    def size(self, width: int) -> int:
        """Width over the reduction factor, one at least."""
        return max(1, width // self.reduction_factor)

    def count(self, width: int) -> int:
        """Trained parameters of one bottleneck."""
        return 2 * width * self.size(width) + self.size(width) + width


class HoulsbyOptions(LayerOptions, BottleneckOptions):
    """The options of every bottleneck, and its layers."""


class Bottleneck(nn.Module):
    """U act(D h + d) + u, as wide as the output of ``base``."""

    def __init__(
        self,
        base: nn.Linear,
        options: BottleneckOptions,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.act = _ACTIVATIONS[options.non_linearity]
        width, device = base.out_features, base.weight.device
        size = options.size(width)
        self.D = nn.Parameter(draw_normal((size, width), 0.02, generator).to(device))
        self.D_bias = nn.Parameter(torch.zeros(size, device=device))
        self.U = nn.Parameter(torch.zeros(width, size, device=device))
        self.U_bias = nn.Parameter(torch.zeros(width, device=device))

    def compute_change(self, h: Tensor) -> Tensor:
        """(rows, tokens, width) -> (rows, tokens, width)."""
        low = F.linear(h, self.D)
        low = self.act(low + self.D_bias)
        high = F.linear(low, self.U)
        return high + self.U_bias

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """The output of the sublayer and the bottleneck's change of it."""
        return out + self.compute_change(out)


BottleneckT = TypeVar("BottleneckT", bound=Bottleneck)


def make_bottlenecks(
    kind: type[BottleneckT],
    model: nn.Module,
    names: Iterable[str],
    options: BottleneckOptions,
    seed: int,
    *key: str,
) -> dict[str, BottleneckT]:
    """A bottleneck for each of these linear layers; seed, key and its name seed its start."""
    return {
        name: kind(get_linear(model, name), options, init_generator(seed, *key, name))
        for name in names
    }


def inject(
    model: nn.Module, anatomy: Anatomy, options: HoulsbyOptions, context: PassContext, seed: int
) -> Injection:
    """Put a bottleneck behind both sublayers of every layer."""
    names = [n for layer in anatomy.layers for n in (layer.self_attention.output, layer.down)]
    return attach(model, NAME, make_bottlenecks(Bottleneck, model, names, options, seed, NAME))


METHOD = Method(
    name=NAME,
    title="Houlsby adapters",
    options=HoulsbyOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    # LLM-Adapters (Hu et al. 2023, arXiv:2304.01933) takes 3e-4 on LLaMA.
    decoder_learning_rates=(1e-4, 3e-4, 1e-3),
    inject=inject,
    count_parameters=lambda model, anatomy, options: (
        2 * len(anatomy.layers) * options.count(anatomy.width)
    ),
    saved_widths=3.8,
)
