"""DoRA: LoRA moves the direction of each row of the weight, a trained magnitude its length.

Source: Liu et al. 2024, arXiv:2402.09353, equation 5; the norm is a constant to the gradient
(section 4.3), as in PEFT.
Equation: h = m o (W + s B A) x / ||W + s B A||_row + b, with W and b frozen, s = alpha / rank.
Shapes: A (rank, in), B (out, rank), m (out,).
Trained parameters: rank * (in + out) + out for each target layer.
Start: the base model (B = 0, m = ||W||_row). Merges. PEFT export: LORA with use_dora.
When: LoRA at a low rank falls short of full fine-tuning, and its slower step is acceptable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.methods import lora
from paretune.methods.core.injection import Injection, get_linear
from paretune.methods.core.low_rank import low_rank_method
from paretune.methods.core.method import always
from paretune.models.quantised import base_product


class DoraOptions(lora.DropoutOptions):
    """``dropout`` acts on the input of the update."""

    def peft_fields(self) -> dict[str, Any]:
        """See :meth:`LowRankOptions.peft_fields`."""
        return {**super().peft_fields(), "use_dora": True}


class DoraUpdate(lora.LoraUpdate):
    """One low-rank update and one magnitude beside a frozen linear layer."""

    peft_names: ClassVar[Mapping[str, str]] = {
        **lora.LoraUpdate.peft_names,
        "m": "lora_magnitude_vector",
    }

    def __init__(self, base: nn.Linear, options: DoraOptions, generator: torch.Generator) -> None:
        super().__init__(base, options, generator)
        # In a tuple, so that the layer does not become a child of its own update.
        self._base = (base,)
        self.m = nn.Parameter(self.row_norms())

    @classmethod
    def count(cls, base: nn.Linear, options: Any) -> int:
        """Trained parameters beside a layer."""
        return super().count(base, options) + base.out_features

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        (base,) = self._base
        without_bias = out if base.bias is None else out - base.bias
        dropped = self.dropout(x)
        # The direction loses what dropout took from the input, as in PEFT.
        is_undropped = dropped is x or not self.training
        directed = without_bias if is_undropped else base_product(base, dropped)
        low = F.linear(dropped, self.A)
        update = F.linear(low, self.B) * self.scaling
        scale = self.m / self.row_norms()
        return out + (scale - 1) * directed + scale * update

    def row_norms(self) -> Tensor:
        """Norms of the rows of W + s B A, a constant to the gradient; (out,)."""
        (base,) = self._base
        weight = base.weight  # dequantised for this once, where the base is quantised
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            weights: Tensor = weight + self.scaling * self.B @ self.A
            norms: Tensor = torch.linalg.vector_norm(weights, dim=1)
            return norms

    def merged_weight(self) -> Tensor:
        """The weight in effect, (out, in)."""
        (base,) = self._base
        weight: Tensor = base.weight + self.delta()
        return weight * (self.m / self.row_norms())[:, None]


def merge(model: nn.Module, injection: Injection) -> None:
    """Replace each frozen weight by the weight in effect and take the method out."""
    with torch.no_grad():
        for name, update in injection.adapters.items():
            assert isinstance(update, DoraUpdate)  # noqa: S101  (put there by inject)
            get_linear(model, name).weight.copy_(update.merged_weight())
    injection.finish_merge()


METHOD = low_rank_method(
    DoraUpdate,
    name="dora",
    title="DoRA",
    options=DoraOptions,
    learning_rates=(6e-4, 2e-3, 6e-3),
    decoder_learning_rates=lora.METHOD.decoder_learning_rates,
    merge=merge,
    reads_base_weights=always,
    first_in_stack="it measures the weights that it finds",
    saved_widths=11.9,
)
