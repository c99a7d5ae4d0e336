"""LoRA: a low-rank update beside frozen linear layers.

Source: Hu et al. 2021, arXiv:2106.09685, equation 3; ``use_rslora``: Kalajdzievski 2023,
arXiv:2312.03732, section 3; ``loraplus_lr_ratio``: Hayou et al. 2024 (LoRA+), arXiv:2402.12354.
Equation: h = W x + s B A x, with W frozen; s = alpha / rank, or alpha / sqrt(rank) in rsLoRA.
Shapes: A (runs, rank, in), B (runs, out, rank).
Trained parameters: rank * (in + out) for each target layer, the rank that of the layer.
Start: the base model (B = 0; A uniform on +-1/sqrt(in), PEFT's kaiming_uniform with a = sqrt 5).
Merges: W + s B A. PEFT export: LORA.
When: in doubt: the usual first choice, merges without a trace, and `peft` and servers know it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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
from paretune.methods.core.options import EVERY_KIND, bounded
from paretune.methods.core.peft_export import fill_peft_layers
from paretune.methods.core.run_axis import Fleet, per_run_linear
from paretune.methods.core.targeting import LowRankOptions, reads_weights
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

__all__ = ["Options", "inject", "merge", "parameter_count", "reads_weights"]

NAME = "lora"
TITLE = "LoRA"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True
MIXES = True


@dataclass(frozen=True)
class Options(LowRankOptions):
    """``dropout`` acts on the input of the update.

    ``loraplus_lr_ratio``: B learns so many times as fast as A; 1 is plain LoRA.
    """

    dropout: float = bounded(0.0, 0.0, 0.9)
    use_rslora: bool = False
    loraplus_lr_ratio: float = bounded(1.0, 1.0, 1024.0)
    CLOSED: ClassVar[Mapping[str, str]] = {
        **LowRankOptions.CLOSED,
        "use_dora": "take the method dora",
        "init_lora_weights": "the method peft:lora has it",
    }

    @property
    def scaling(self) -> float:
        """What the update is multiplied by."""
        return self.effective_alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


class LoraUpdate(nn.Module):
    """One low-rank update for each run, beside a frozen linear layer."""

    def __init__(
        self, base: nn.Linear, options: Options, fleet: Fleet, generators: list[torch.Generator]
    ) -> None:
        super().__init__()
        self.fleet, self.scaling = fleet, options.scaling
        bound = 1 / math.sqrt(base.in_features)
        down = torch.empty(fleet.runs, options.rank, base.in_features)
        for r, draw in enumerate(generators):
            down[r].uniform_(-bound, bound, generator=draw)
        device = base.weight.device
        self.A = nn.Parameter(down.to(device))
        self.B = nn.Parameter(
            torch.zeros(fleet.runs, base.out_features, options.rank, device=device)
        )
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        low = per_run_linear(self.dropout(x), self.A, self.fleet)
        return out + per_run_linear(low, self.B, self.fleet) * self.scaling

    def delta(self, run: int = 0) -> Tensor:
        """The update of the weight, (out, in)."""
        update: Tensor = self.B[run] @ self.A[run] * self.scaling
        return update


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put an update beside each target layer; ``seeds`` has one seed for each run of the fleet."""

    def made(name: str) -> LoraUpdate:
        draws = [make_generator(derive_seed(seed, "init", NAME, name)) for seed in seeds]
        return LoraUpdate(get_linear(model, name), options.for_layer(name), fleet, draws)

    in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
    names = options.select_layers(anatomy, in_full)
    injection = train_modules(
        model, attach(model, NAME, {name: made(name) for name in names}), in_full
    )
    if options.loraplus_lr_ratio != 1.0:
        faster = [name for name in injection.parameters if name.endswith(".B")]
        injection.learning_rate_factors = dict.fromkeys(faster, options.loraplus_lr_ratio)
    return injection


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """The same by PEFT, on a fresh base; ``common`` goes to its config."""
    import peft

    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.effective_alpha,
        lora_dropout=options.dropout,
        use_rslora=options.use_rslora,
        target_modules=sorted(injection.adapters),
        **options.peft_patterns(list(injection.adapters)),
        **common,
    )
    return fill_peft_layers(model, config, injection, NAME, {"A": "lora_A", "B": "lora_B"})


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Sum of rank * (in + out) over the target layers."""
    in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
    layers = {name: get_linear(model, name) for name in options.select_layers(anatomy, in_full)}
    numbers = (
        options.for_layer(n).rank * (m.out_features + m.in_features) for n, m in layers.items()
    )
    return sum(numbers) + count_module_parameters(model, in_full)
