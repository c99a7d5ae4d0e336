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
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, fill_peft_layers, merge_deltas
from paretune.methods.core.low_rank import LowRankOptions, attach_updates, count_updates
from paretune.methods.core.method import Method
from paretune.methods.core.run_axis import Fleet, draw_uniform, per_run_linear
from paretune.models.structure.anatomy import Anatomy

NAME = "lora"


class Options(LowRankOptions):
    """``dropout`` acts on the input of the update.

    ``loraplus_lr_ratio``: the learning rate of B over that of A; 1 is plain LoRA.
    """

    dropout: float = Field(default=0.0, ge=0, le=0.9)
    use_rslora: bool = False
    loraplus_lr_ratio: float = Field(default=1.0, ge=1, le=1024)
    HINTS: ClassVar[Mapping[str, str]] = {
        **LowRankOptions.HINTS,
        "use_dora": "take the method dora",
        "init_lora_weights": "the method peft:lora has it",
    }

    @property
    def scaling(self) -> float:
        """The factor s of the update."""
        return self.effective_alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


class LoraUpdate(nn.Module):
    """One low-rank update for each run, beside a frozen linear layer."""

    def __init__(
        self, base: nn.Linear, options: Options, fleet: Fleet, generators: list[torch.Generator]
    ) -> None:
        super().__init__()
        self.fleet, self.scaling = fleet, options.scaling
        rank, n_in, n_out = options.rank, base.in_features, base.out_features
        device = base.weight.device
        self.A = nn.Parameter(draw_uniform((rank, n_in), n_in, generators).to(device))
        self.B = nn.Parameter(torch.zeros(fleet.runs, n_out, rank, device=device))
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
    """Put an update beside each target layer."""
    injection = attach_updates(model, anatomy, options, fleet, seeds, NAME, LoraUpdate)
    if options.loraplus_lr_ratio != 1.0:
        b_names = [name for name in injection.parameters if name.endswith(".B")]
        injection.learning_rate_factors = dict.fromkeys(b_names, options.loraplus_lr_ratio)
    return injection


def count_parameters(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Sum of rank * (in + out) over the target layers."""

    def count_layer(layer: nn.Linear, layer_options: Options) -> int:
        return layer_options.rank * (layer.in_features + layer.out_features)

    return count_updates(model, anatomy, options, count_layer)


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """PEFT's LoRA with the same tensors."""
    import peft

    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.effective_alpha,
        lora_dropout=options.dropout,
        use_rslora=options.use_rslora,
        **options.peft_layers(injection),
        **common,
    )
    return fill_peft_layers(model, config, injection, NAME, {"A": "lora_A", "B": "lora_B"})


METHOD = Method(
    name=NAME,
    title="LoRA",
    options=Options,
    learning_rates=(3e-4, 1e-3, 3e-3),
    # Ten times those of full fine-tuning (Schulman et al. 2025, LoRA Without Regret); QLoRA takes
    # 2e-4 (arXiv:2305.14314), LLaMA-Factory and PEFT's comparison on MetaMathQA 1e-4.
    decoder_learning_rates=(5e-5, 1.5e-4, 5e-4),
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    merge=merge_deltas,
    to_peft=to_peft,
    reads_base_weights=LowRankOptions.trains_base_modules,
    mixes=lambda options: not options.dropout,
    saved_widths=1.8,
    layers_below=LowRankOptions.count_layers_below,
    size_option="rank",
)
