"""BitFit: only the biases are trained.

Source: Ben Zaken et al. 2021, arXiv:2106.10199, section 3.
Equation: h = W x + (b + d), and LayerNorm alike, with W and b frozen and d trained.
Shapes: d (width,) beside every linear layer and normalisation of the backbone with a bias.
Trained parameters: the sum of the widths of these biases.
Start: the base model (d = 0). Without weight decay, as all biases here, training d is training b.
Merges: b + d. PEFT export: none (merged: a plain checkpoint).
When: next to nothing may be trained or stored, and the model has biases.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from paretune.errors import MethodError
from paretune.methods.core.injection import Injection, attach
from paretune.methods.core.method import Method
from paretune.methods.core.options import LayerOptions
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import is_within

NAME = "bitfit"


class BiasShift(nn.Module):
    """A change of one bias."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(len(bias), device=bias.device))

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, ..., in), (rows, ..., out) -> (rows, ..., out)."""
        return out + self.bias


def inject(
    model: nn.Module, anatomy: Anatomy, options: LayerOptions, context: PassContext, seed: int
) -> Injection:
    """Put a shift beside every module of the backbone that has a bias.

    Raises:
        MethodError: the backbone has no bias at all (ModernBERT, T5).
    """
    biases = _find_biases(model, anatomy)
    if not biases:
        raise MethodError(
            f"{type(model).__name__} has no biases outside its head"
            f"{'' if anatomy.is_whole else ', in these layers'}.",
            where=f"method {NAME}",
            remedy="Take another method for this model.",
        )
    return attach(model, NAME, {name: BiasShift(bias) for name, bias in biases.items()})


def count_parameters(model: nn.Module, anatomy: Anatomy, options: LayerOptions) -> int:
    """Widths of all biases outside the head."""
    return sum(len(bias) for bias in _find_biases(model, anatomy).values())


def merge(model: nn.Module, injection: Injection) -> None:
    """Add each shift to the frozen bias beside it and take the method out."""
    with torch.no_grad():
        for name, shift in injection.adapters.items():
            module: Any = model.get_submodule(name)
            module.bias += next(shift.parameters())
    injection.undo()


def _find_biases(model: nn.Module, anatomy: Anatomy) -> dict[str, Tensor]:
    """The bias of every linear layer and normalisation of the backbone, by its module."""
    biases = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        module, _, tensor_name = name.rpartition(".")
        if (
            tensor_name == "bias"
            and not is_within(module, *anatomy.head_modules)
            and anatomy.covers(name)
        ):
            biases[module] = parameter.detach()
    return biases


METHOD = Method(
    name=NAME,
    title="BitFit",
    options=LayerOptions,
    learning_rates=(6e-4, 2e-3, 6e-3),
    inject=inject,
    count_parameters=count_parameters,
    merge=merge,
    saved_widths=0.0,
)
