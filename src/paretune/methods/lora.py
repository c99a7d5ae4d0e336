"""LoRA: a low-rank update beside frozen linear layers.

Source: Hu et al. 2021, arXiv:2106.09685, equation 3; ``use_rslora``: Kalajdzievski 2023,
arXiv:2312.03732, section 3; ``loraplus_lr_ratio``: Hayou et al. 2024 (LoRA+), arXiv:2402.12354.
Equation: h = W x + s B A x, with W frozen; s = alpha / rank, or alpha / sqrt(rank) in rsLoRA.
Shapes: A (rank, in), B (out, rank).
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
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paretune.methods.core.low_rank import LowRankOptions, LowRankUpdate, low_rank_method


class DropoutOptions(LowRankOptions):
    """``dropout`` acts on the input of the update."""

    dropout: float = Field(default=0.0, ge=0, le=0.9)

    def peft_fields(self) -> dict[str, Any]:
        """See :meth:`LowRankOptions.peft_fields`."""
        alpha, dropout = self.effective_alpha, self.dropout
        return {"r": self.rank, "lora_alpha": alpha, "lora_dropout": dropout}


class LoraOptions(DropoutOptions):
    """``dropout`` acts on the input of the update.

    ``loraplus_lr_ratio``: the learning rate of B over that of A; 1 is plain LoRA.
    """

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

    def peft_fields(self) -> dict[str, Any]:
        """See :meth:`LowRankOptions.peft_fields`."""
        return {**super().peft_fields(), "use_rslora": self.use_rslora}

    @property
    def learning_rate_factors(self) -> dict[str, float]:
        """B learns faster in LoRA+."""
        return {"B": self.loraplus_lr_ratio} if self.loraplus_lr_ratio != 1.0 else {}


class LoraUpdate(LowRankUpdate):
    """A low-rank update beside a frozen linear layer."""

    A: Tensor
    B: Tensor
    zero = "B"
    peft_config = "LoraConfig"
    peft_names: ClassVar[Mapping[str, str]] = {"A": "lora_A", "B": "lora_B"}

    def __init__(
        self,
        base: nn.Linear,
        options: DropoutOptions,
        generator: torch.Generator,
    ) -> None:
        super().__init__(base, options, generator)
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()

    @classmethod
    def shapes(cls, base: nn.Linear, options: Any) -> dict[str, tuple[int, int]]:
        """The shape of each tensor."""
        rank = options.rank
        return {"A": (rank, base.in_features), "B": (base.out_features, rank)}

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        low = F.linear(self.dropout(x), self.A)
        return out + F.linear(low, self.B) * self.scaling

    def delta(self) -> Tensor:
        """The update of the weight, (out, in)."""
        return self.B @ self.A * self.scaling


METHOD = low_rank_method(
    LoraUpdate,
    name="lora",
    title="LoRA",
    options=LoraOptions,
    learning_rates=(6e-4, 2e-3, 6e-3),
    # Ten times those of full fine-tuning (Schulman et al. 2025, LoRA Without Regret); QLoRA takes
    # 2e-4 (arXiv:2305.14314), LLaMA-Factory and PEFT's comparison on MetaMathQA 1e-4.
    decoder_learning_rates=(1.5e-4, 5e-4, 1.5e-3),
    saved_widths=1.8,
)
