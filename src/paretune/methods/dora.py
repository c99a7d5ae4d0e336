"""DoRA: LoRA moves the direction of each row of the weight, a trained magnitude its length.

Source: Liu et al. 2024, arXiv:2402.09353, equation 5; the norm is a constant to the gradient
(section 4.3), as in PEFT.
Equation: h = m o (W + s B A) x / ||W + s B A||_row + b, with W and b frozen, s = alpha / rank.
Shapes: A (runs, rank, in), B (runs, out, rank), m (runs, out).
Trained parameters: rank * (in + out) + out for each target layer.
Start: the base model (B = 0, m = ||W||_row). Merges. PEFT export: LORA with use_dora.
When: LoRA at a low rank falls short of full fine-tuning, and its slower step is acceptable.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from paretune.methods import lora
from paretune.methods.core.injection import Injection, fill_peft_layers, get_linear
from paretune.methods.core.low_rank import LowRankOptions, attach_updates, count_updates
from paretune.methods.core.method import Method, always
from paretune.methods.core.run_axis import Fleet, per_run_linear, per_run_vector
from paretune.models.quantised import base_product
from paretune.models.structure.anatomy import Anatomy

NAME = "dora"


class Options(LowRankOptions):
    """``dropout`` acts on the input of the update."""

    dropout: float = Field(default=0.0, ge=0, le=0.9)

    @property
    def lora(self) -> lora.Options:
        """The options of the low-rank update."""
        return lora.Options(rank=self.rank, alpha=self.alpha, dropout=self.dropout)


class DoraUpdate(lora.LoraUpdate):
    """One low-rank update and one magnitude for each run, beside a frozen linear layer."""

    def __init__(
        self, base: nn.Linear, options: Options, fleet: Fleet, generators: list[torch.Generator]
    ) -> None:
        super().__init__(base, options.lora, fleet, generators)
        # In a tuple, so that the layer does not become a child of its own update.
        self._base = (base,)
        self.m = nn.Parameter(self.row_norms())

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        (base,) = self._base
        without_bias = out if base.bias is None else out - base.bias
        dropped = self.dropout(x)
        # The direction loses what dropout took from the input, as in PEFT.
        is_undropped = dropped is x or not self.training
        directed = without_bias if is_undropped else base_product(base, dropped)
        low = per_run_linear(dropped, self.A, self.fleet)
        update = per_run_linear(low, self.B, self.fleet) * self.scaling
        scale = per_run_vector(out, self.m / self.row_norms(), self.fleet)
        return out + (scale - 1) * directed + scale * update

    def row_norms(self) -> Tensor:
        """Norms of the rows of W + s B A, a constant to the gradient; (runs, out)."""
        (base,) = self._base
        weight = base.weight  # dequantised for this once, where the base is quantised
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            weights: Tensor = weight + self.scaling * self.B @ self.A
            norms: Tensor = torch.linalg.vector_norm(weights, dim=2)
            return norms

    def merged_weight(self) -> Tensor:
        """The weight in effect of run 0, (out, in)."""
        (base,) = self._base
        weight: Tensor = base.weight + self.delta()
        return weight * (self.m / self.row_norms())[0, :, None]


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put an update beside each target layer."""
    return attach_updates(model, anatomy, options, fleet, seeds, NAME, DoraUpdate)


def count_parameters(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Sum of rank * (in + out) + out over the target layers."""

    def count_layer(layer: nn.Linear, layer_options: Options) -> int:
        return layer_options.rank * (layer.in_features + layer.out_features) + layer.out_features

    return count_updates(model, anatomy, options, count_layer)


def merge(model: nn.Module, injection: Injection) -> None:
    """Replace each frozen weight by the weight in effect and take the method out."""
    with torch.no_grad():
        for name, update in injection.adapters.items():
            assert isinstance(update, DoraUpdate)  # noqa: S101  (put there by inject)
            get_linear(model, name).weight.copy_(update.merged_weight())
    injection.finish_merge()


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """PEFT's DoRA with the same tensors."""
    import peft

    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.effective_alpha,
        lora_dropout=options.dropout,
        use_dora=True,
        **options.peft_layers(injection),
        **common,
    )
    names = {"A": "lora_A", "B": "lora_B", "m": "lora_magnitude_vector"}
    return fill_peft_layers(model, config, injection, NAME, names)


METHOD = Method(
    name=NAME,
    title="DoRA",
    options=Options,
    learning_rates=(3e-4, 1e-3, 3e-3),
    decoder_learning_rates=lora.METHOD.decoder_learning_rates,
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    merge=merge,
    to_peft=to_peft,
    reads_base_weights=always,
    first_in_stack="it measures the weights that it finds",
    saved_widths=11.9,
    layers_below=LowRankOptions.count_layers_below,
    size_option="rank",
)
