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

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paretune.methods.core.injection import (
    Injection,
    attach,
    get_linear,
    make_generator,
    merge,
)
from paretune.methods.core.modules_to_save import (
    count_module_parameters,
    find_modules_to_save,
    train_modules,
)
from paretune.methods.core.options import EVERY_KIND
from paretune.methods.core.peft_export import fill_peft_layers
from paretune.methods.core.run_axis import Fleet, per_run_linear
from paretune.methods.core.targeting import LowRankOptions, reads_weights
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

__all__ = ["Options", "inject", "merge", "parameter_count", "reads_weights"]

NAME = "loha"
TITLE = "LoHa"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True
MIXES = True


@dataclass(frozen=True)
class Options(LowRankOptions):
    """Those of every update of low rank."""


class LohaUpdate(nn.Module):
    """One Hadamard update for each run, beside a frozen linear layer."""

    def __init__(
        self, base: nn.Linear, options: Options, fleet: Fleet, generators: list[torch.Generator]
    ) -> None:
        super().__init__()
        self.fleet, self.scaling = fleet, options.scaling
        runs, rank = fleet.runs, options.rank
        out, in_ = base.out_features, base.in_features
        self.factorised = rank**2 * (in_ + out) < in_ * out
        shapes = {"A1": (out, rank), "B1": (rank, in_), "A2": (out, rank)}
        values = {name: torch.empty(runs, *shape) for name, shape in shapes.items()}
        for r, draw in enumerate(generators):
            for name, (_, fan_in) in shapes.items():
                bound = 1 / math.sqrt(fan_in)
                values[name][r].uniform_(-bound, bound, generator=draw)
        device = base.weight.device
        self.A1 = nn.Parameter(values["A1"].to(device))
        self.B1 = nn.Parameter(values["B1"].to(device))
        self.A2 = nn.Parameter(values["A2"].to(device))
        self.B2 = nn.Parameter(torch.zeros(runs, rank, in_, device=device))

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
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put an update beside each target layer; ``seeds`` has one seed for each run of the fleet."""

    def made(name: str) -> LohaUpdate:
        draws = [make_generator(derive_seed(seed, "init", NAME, name)) for seed in seeds]
        return LohaUpdate(get_linear(model, name), options.for_layer(name), fleet, draws)

    in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
    names = options.select_layers(anatomy, in_full)
    return train_modules(model, attach(model, NAME, {name: made(name) for name in names}), in_full)


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """The same by PEFT, on a fresh base; ``common`` goes to its config."""
    import peft

    config = peft.LoHaConfig(
        r=options.rank,
        alpha=options.effective_alpha,
        target_modules=sorted(injection.adapters),
        **options.peft_patterns(list(injection.adapters)),
        **common,
    )
    return fill_peft_layers(
        model,
        config,
        injection,
        NAME,
        {"A1": "hada_w1_a", "B1": "hada_w1_b", "A2": "hada_w2_a", "B2": "hada_w2_b"},
    )


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Sum of 2 * rank * (in + out) over the target layers."""
    in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
    layers = {name: get_linear(model, name) for name in options.select_layers(anatomy, in_full)}
    numbers = (
        options.for_layer(n).rank * (m.out_features + m.in_features) for n, m in layers.items()
    )
    return 2 * sum(numbers) + count_module_parameters(model, in_full)
