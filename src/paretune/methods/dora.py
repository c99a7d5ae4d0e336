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

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.methods import lora
from paretune.methods.core.injection import Injection, attach, get_linear, make_generator
from paretune.methods.core.modules_to_save import (
    count_module_parameters,
    find_modules_to_save,
    train_modules,
)
from paretune.methods.core.options import EVERY_KIND, bounded
from paretune.methods.core.peft_export import fill_peft_layers
from paretune.methods.core.run_axis import Fleet, per_run_linear, per_run_vector
from paretune.methods.core.targeting import LowRankOptions
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

NAME = "dora"
TITLE = "DoRA"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True
READS_WEIGHTS = True


@dataclass(frozen=True)
class Options(LowRankOptions):
    """``dropout`` acts on the input of the update."""

    dropout: float = bounded(0.0, 0.0, 0.9)

    @property
    def update(self) -> lora.Options:
        """The same, as LoRA's options."""
        return lora.Options(rank=self.rank, alpha=self.alpha, dropout=self.dropout)


class DoraUpdate(lora.LoraUpdate):
    """One low-rank update and one magnitude for each run, beside a frozen linear layer."""

    def __init__(
        self, base: nn.Linear, options: Options, fleet: Fleet, generators: list[torch.Generator]
    ) -> None:
        super().__init__(base, options.update, fleet, generators)
        # In a tuple, so that the layer is not listed as a part of what stands beside it.
        self._base = (base,)
        self.m = nn.Parameter(self.row_norms())

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, tokens, in), (rows, tokens, out) -> (rows, tokens, out)."""
        (base,) = self._base
        plain = out if base.bias is None else out - base.bias
        dropped = self.dropout(x)
        # What dropout took from the input, the direction loses as well (as PEFT).
        seen = plain if dropped is x or not self.training else F.linear(dropped, base.weight)
        low = per_run_linear(dropped, self.A, self.fleet)
        update = per_run_linear(low, self.B, self.fleet) * self.scaling
        scale = per_run_vector(out, self.m / self.row_norms(), self.fleet)
        return out + (scale - 1) * seen + scale * update

    def row_norms(self) -> Tensor:
        """Norms of the rows of W + s B A, a constant to the gradient; (runs, out)."""
        (base,) = self._base
        with torch.no_grad(), torch.autocast(base.weight.device.type, enabled=False):
            moved: Tensor = base.weight + self.scaling * self.B @ self.A
            lengths: Tensor = torch.linalg.vector_norm(moved, dim=2)
            return lengths

    def merged_weight(self) -> Tensor:
        """The weight that run 0 has in effect, (out, in)."""
        (base,) = self._base
        weight: Tensor = base.weight + self.delta()
        return weight * (self.m / self.row_norms())[0, :, None]


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put an update beside each target layer; ``seeds`` has one seed for each run of the fleet."""

    def made(name: str) -> DoraUpdate:
        draws = [make_generator(derive_seed(seed, "init", NAME, name)) for seed in seeds]
        return DoraUpdate(get_linear(model, name), options.for_layer(name), fleet, draws)

    in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
    names = options.select_layers(anatomy, in_full)
    return train_modules(model, attach(model, NAME, {name: made(name) for name in names}), in_full)


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """The same by PEFT, on a fresh base; ``common`` goes to its config."""
    import peft

    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.effective_alpha,
        lora_dropout=options.dropout,
        use_dora=True,
        target_modules=sorted(injection.adapters),
        **options.peft_patterns(list(injection.adapters)),
        **common,
    )
    return fill_peft_layers(
        model, config, injection, NAME, {"A": "lora_A", "B": "lora_B", "m": "lora_magnitude_vector"}
    )


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Sum of rank * (in + out) + out over the target layers."""
    in_full = find_modules_to_save(model, anatomy, options.modules_to_save)
    layers = {name: get_linear(model, name) for name in options.select_layers(anatomy, in_full)}
    ranks = {name: options.for_layer(name).rank for name in layers}
    return count_module_parameters(model, in_full) + sum(
        ranks[name] * (m.out_features + m.in_features) + m.out_features
        for name, m in layers.items()
    )


def merge(model: nn.Module, injection: Injection) -> None:
    """Put the weight that is in effect in the place of each frozen one; take the method out."""
    with torch.no_grad():
        for name, part in injection.adapters.items():
            given: Any = part
            get_linear(model, name).weight.copy_(given.merged_weight())
    injection.finish_merge()
