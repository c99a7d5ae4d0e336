"""LoHa: the Hadamard product of two low-rank updates.

Source: Hyeon-Woo et al. 2021 (FedPara), arXiv:2108.06098, equation 3; LyCORIS, arXiv:2309.14859.
Equation: h = W x + (alpha / rank) ((A1 B1) o (A2 B2)) x, with W frozen.
Shapes: A1, A2 (runs, out, rank), B1, B2 (runs, rank, in).
Trained parameters: 2 * rank * (in + out) for each target layer.
Start: the base model (B2 = 0; A1, B1 and A2 uniform on +-1/sqrt(fan in), as PEFT).
Merges: W + (alpha / rank) (A1 B1) o (A2 B2). PEFT export: LOHA.
When: a higher rank is wanted for the same number of parameters.

The product is itself of rank at most rank^2: (A1 B1) o (A2 B2) = P Q with P the row-wise and Q the
column-wise Khatri-Rao product, P[o, ij] = A1[o, i] A2[o, j] and Q[ij, :] = B1[i, :] B2[j, :]. Where
rank^2 (in + out) < in * out, x goes through Q and P and the full delta is never built: fewer
operations for each token, and less memory; the result is the same function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, fill_peft_layers, merge_deltas
from paretune.methods.core.low_rank import LowRankOptions, attach_updates, count_updates
from paretune.methods.core.method import Method, always
from paretune.methods.core.run_axis import Fleet, draw_uniform, per_run_linear
from paretune.models.structure.anatomy import Anatomy

NAME = "loha"


class LohaUpdate(nn.Module):
    """One Hadamard update for each run, beside a frozen linear layer."""

    def __init__(
        self,
        base: nn.Linear,
        options: LowRankOptions,
        fleet: Fleet,
        generators: list[torch.Generator],
    ) -> None:
        super().__init__()
        self.fleet, self.scaling = fleet, options.scaling
        rank, n_in, n_out = options.rank, base.in_features, base.out_features
        self.factorised = rank**2 * (n_in + n_out) < n_in * n_out
        device = base.weight.device
        self.A1 = nn.Parameter(draw_uniform((n_out, rank), rank, generators).to(device))
        self.B1 = nn.Parameter(draw_uniform((rank, n_in), n_in, generators).to(device))
        self.A2 = nn.Parameter(draw_uniform((n_out, rank), rank, generators).to(device))
        self.B2 = nn.Parameter(torch.zeros(fleet.runs, rank, n_in, device=device))

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        if self.factorised:
            up, down = self.khatri_rao()
            low = per_run_linear(x, down, self.fleet)
            return out + per_run_linear(low, up, self.fleet) * self.scaling
        deltas = (self.A1 @ self.B1) * (self.A2 @ self.B2)
        return out + per_run_linear(x, deltas, self.fleet) * self.scaling

    def khatri_rao(self) -> tuple[Tensor, Tensor]:
        """P (runs, out, rank^2) and Q (runs, rank^2, in) with P Q = (A1 B1) o (A2 B2)."""
        up = (self.A1.unsqueeze(-1) * self.A2.unsqueeze(-2)).flatten(-2)
        down = (self.B1.unsqueeze(2) * self.B2.unsqueeze(1)).flatten(1, 2)
        return up, down

    def delta(self, run: int = 0) -> Tensor:
        """The update of the weight, (out, in)."""
        update: Tensor = (self.A1[run] @ self.B1[run]) * (self.A2[run] @ self.B2[run])
        return update * self.scaling


def inject(
    model: nn.Module, anatomy: Anatomy, options: LowRankOptions, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put an update beside each target layer."""
    return attach_updates(model, anatomy, options, fleet, seeds, NAME, LohaUpdate)


def count_parameters(model: nn.Module, anatomy: Anatomy, options: LowRankOptions) -> int:
    """Sum of 2 * rank * (in + out) over the target layers."""

    def count_layer(layer: nn.Linear, layer_options: LowRankOptions) -> int:
        return 2 * layer_options.rank * (layer.in_features + layer.out_features)

    return count_updates(model, anatomy, options, count_layer)


def to_peft(
    model: nn.Module, options: LowRankOptions, injection: Injection, common: dict[str, Any]
) -> Any:
    """PEFT's LoHa with the same tensors."""
    import peft

    config = peft.LoHaConfig(
        r=options.rank, alpha=options.effective_alpha, **options.peft_layers(injection), **common
    )
    names = {"A1": "hada_w1_a", "B1": "hada_w1_b", "A2": "hada_w2_a", "B2": "hada_w2_b"}
    return fill_peft_layers(model, config, injection, NAME, names)


METHOD = Method(
    name=NAME,
    title="LoHa",
    options=LowRankOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    # Above LoRA's: at the 1e-4 of PEFT's comparison on MetaMathQA it falls behind (.393 to .478).
    decoder_learning_rates=(1e-4, 3e-4, 1e-3),
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    merge=merge_deltas,
    to_peft=to_peft,
    reads_base_weights=LowRankOptions.trains_base_modules,
    mixes=always,
    saved_widths=3.6,
    layers_below=LowRankOptions.count_layers_below,
    size_option="rank",
)
