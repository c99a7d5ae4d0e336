"""SSF: the output of every linear layer is scaled and shifted, channel by channel.

Source: Lian et al. 2022 (Scaling & shifting your features), arXiv:2210.08823, section 3.2; there
also behind the normalisations, here behind the linear layers alone.
Equation: h = g o (W x + b) + s, with W and b frozen; s where the layer has a bias.
Shapes: g and s (out,).
Trained parameters: out for each linear layer of the backbone's layers, twice where it has a bias.
Start: the base model (g = 1, s = 0). Merges: g o W, and g o b + s. PEFT export: none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paretune.methods import Method, MethodOptions
from paretune.methods.core.injection import Injection, attach, get_linear
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy, find_target_modules

NAME = "ssf"


class ScaleShift(nn.Module):
    """A scale and a shift beside a frozen linear layer."""

    shift_bias: nn.Parameter | None

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        zeros = torch.zeros(base.out_features, device=base.weight.device)
        self.scale = nn.Parameter(zeros + 1)
        self.shift_bias = None if base.bias is None else nn.Parameter(zeros)

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, ..., in), (rows, ..., out) -> (rows, ..., out)."""
        out = out * self.scale
        if self.shift_bias is None:
            return out
        return out + self.shift_bias


def inject(
    model: nn.Module, anatomy: Anatomy, options: MethodOptions, context: PassContext, seed: int
) -> Injection:
    """Put a scale and a shift behind every linear layer of the backbone's layers."""
    names = find_target_modules(anatomy, ("all_linear",))
    return attach(model, NAME, {name: ScaleShift(get_linear(model, name)) for name in names})


def count_parameters(model: nn.Module, anatomy: Anatomy, options: MethodOptions) -> int:
    """Out for each linear layer, twice where it has a bias."""
    layers = [get_linear(model, n) for n in find_target_modules(anatomy, ("all_linear",))]
    return sum(layer.out_features * (1 if layer.bias is None else 2) for layer in layers)


def merge(model: nn.Module, injection: Injection) -> None:
    """Multiply and add the changes into the frozen weights and take the method out."""
    with torch.no_grad():
        for name, change in injection.adapters.items():
            assert isinstance(change, ScaleShift)  # noqa: S101  (put there by inject)
            layer = get_linear(model, name)
            layer.weight *= change.scale[:, None]
            if change.shift_bias is not None:
                layer.bias.copy_(layer.bias * change.scale + change.shift_bias)
    injection.undo()


METHOD = Method(
    name=NAME,
    title="SSF",
    options=MethodOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    inject=inject,
    count_parameters=count_parameters,
    merge=merge,
)
