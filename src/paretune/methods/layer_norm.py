"""LayerNorm tuning: only the gains and shifts of the normalisations are trained.

Source: Zhao et al. 2023, arXiv:2312.11420, section 3; Frankle et al. 2020, arXiv:2003.00152.
Equation: h = (g + dg) o norm(x) + (b + db), with g and b frozen, dg and db trained.
Shapes: dg and db (runs, width) beside every LayerNorm or RMS norm (T5) of the backbone; db where it
has a shift.
Trained parameters: the widths of all gains and shifts.
Start: the base model (dg = db = 0). Without weight decay, as the normalisations themselves.
Merges: g + dg and b + db. PEFT export: LN_TUNING.
When: next to nothing may be trained, and the model has no biases (ModernBERT).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, attach
from paretune.methods.core.options import EVERY_KIND
from paretune.methods.core.peft_export import copy_run_tensor, wrap_in_peft
from paretune.methods.core.run_axis import Fleet, per_run_vector
from paretune.models.structure.anatomy import Anatomy

NAME = "layer_norm"
TITLE = "LayerNorm tuning"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True
MIXES = True


@dataclass(frozen=True)
class Options:
    """LayerNorm tuning has no options beside the learning rate."""


class NormChange(nn.Module):
    """A change of one normalisation's gain and shift for each run."""

    shift_bias: nn.Parameter | None

    def __init__(self, norm: Any, fleet: Fleet) -> None:
        super().__init__()
        self.fleet, self.norm = fleet, _make_normalise(norm)
        zeros = torch.zeros(fleet.runs, *norm.weight.shape, device=norm.weight.device)
        # Their names end as those of a normalisation's shift do: no weight decay.
        self.gain_bias = nn.Parameter(zeros)
        shift = getattr(norm, "bias", None)  # None, too, where the norm was made without
        self.shift_bias = None if shift is None else nn.Parameter(zeros.clone())

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, ..., width) twice -> (rows, ..., width)."""
        plain = self.norm(x)
        out = out + per_run_vector(plain, self.gain_bias, self.fleet) * plain
        if self.shift_bias is None:
            return out
        return out + per_run_vector(out, self.shift_bias, self.fleet)


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put a change beside every normalisation of the backbone."""
    parts = {name: NormChange(norm, fleet) for name, norm in find_norms(model, anatomy).items()}
    return attach(model, NAME, parts)


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """The same by PEFT, on a fresh base; ``common`` goes to its config."""
    import peft

    config = peft.LNTuningConfig(target_modules=sorted(injection.adapters), **common)
    theirs = wrap_in_peft(model, config)
    for name, part in injection.adapters.items():
        held: Any = theirs.base_model.model.get_submodule(name).ln_tuning_layers["default"]
        given: Any = part
        copy_run_tensor(held.weight, held.weight + given.gain_bias)
        if given.shift_bias is not None:
            copy_run_tensor(held.bias, held.bias + given.shift_bias)
    return theirs


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Widths of all gains and shifts."""
    return sum(p.numel() for norm in find_norms(model, anatomy).values() for p in norm.parameters())


def merge(model: nn.Module, injection: Injection) -> None:
    """Add the changes to the frozen gains and shifts and take the method out."""
    with torch.no_grad():
        for name, part in injection.adapters.items():
            norm: Any = model.get_submodule(name)
            given: Any = part
            norm.weight += given.gain_bias[0]
            if given.shift_bias is not None:
                norm.bias += given.shift_bias[0]
    injection.undo()


def find_norms(model: nn.Module, anatomy: Anatomy) -> dict[str, Any]:
    """Every normalisation outside the head, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.LayerNorm) or _is_rms_norm(module))
        and not any(name == head or name.startswith(f"{head}.") for head in anatomy.head_modules)
    }


def _is_rms_norm(module: Any) -> bool:
    """Whether it divides by the root of the mean square: T5's own module, and others like it."""
    if isinstance(module, nn.RMSNorm):
        return True
    only_gain = [name for name, _ in module.named_parameters()] == ["weight"]
    return hasattr(module, "variance_epsilon") and only_gain


def _make_normalise(norm: Any) -> Callable[[Tensor], Tensor]:
    """What it does before its gain and its shift."""
    if _is_rms_norm(norm):
        eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        return lambda x: F.rms_norm(x, x.shape[-1:], eps=eps)
    return lambda x: F.layer_norm(x, x.shape[-1:], eps=norm.eps)
