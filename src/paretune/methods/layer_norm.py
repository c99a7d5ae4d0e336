"""LayerNorm tuning: only the gains and shifts of the normalisations are trained.

Source: Zhao et al. 2023, arXiv:2312.11420, section 3; Frankle et al. 2020, arXiv:2003.00152.
Equation: h = (g + dg) o norm(x) + (b + db), with g and b frozen, dg and db trained.
Shapes: dg and db (width,) beside every LayerNorm or RMS norm (T5, decoders) of the backbone, a
head's width where queries and keys are normalised (Qwen 3, Gemma 3); db where there is a shift.
Where the gain is 1 + g (Gemma), dg is added to it alike.
Trained parameters: the widths of all gains and shifts.
Start: the base model (dg = db = 0). Without weight decay, as the normalisations themselves.
Merges: g + dg and b + db. PEFT export: LN_TUNING.
When: next to nothing may be trained, and the model has no biases (ModernBERT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, attach, copy_tensor, wrap_in_peft
from paretune.methods.core.method import Method, PeftExport
from paretune.methods.core.options import LayerOptions
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import is_within

NAME = "layer_norm"


class NormChange(nn.Module):
    """A change of one normalisation's gain and shift."""

    shift_bias: nn.Parameter | None

    def __init__(self, norm: Any) -> None:
        super().__init__()
        # The module normalises like this before its gain and its shift.
        if _is_rms_norm(norm):
            eps = next(vars(norm)[name] for name in _EPSILONS if name in vars(norm))
            self.normalise: Callable[[Tensor], Tensor]
            self.normalise = lambda x: F.rms_norm(x, x.shape[-1:], eps=eps)
        else:
            self.normalise = lambda x: F.layer_norm(x, x.shape[-1:], eps=norm.eps)
        zeros = torch.zeros(norm.weight.shape, device=norm.weight.device)
        # Their names end in "bias", as a normalisation's shift: no weight decay.
        self.gain_bias = nn.Parameter(zeros)
        has_shift = "bias" in dict(norm.named_parameters(recurse=False))
        self.shift_bias = nn.Parameter(zeros.clone()) if has_shift else None

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, ..., width) twice -> (rows, ..., width)."""
        normalised = self.normalise(x)
        out = out + self.gain_bias * normalised
        if self.shift_bias is None:
            return out
        return out + self.shift_bias


def inject(
    model: nn.Module, anatomy: Anatomy, options: LayerOptions, context: PassContext, seed: int
) -> Injection:
    """Put a change beside every normalisation of the backbone."""
    norms = find_norms(model, anatomy)
    return attach(model, NAME, {name: NormChange(norm) for name, norm in norms.items()})


def count_parameters(model: nn.Module, anatomy: Anatomy, options: LayerOptions) -> int:
    """Widths of all gains and shifts."""
    norms = find_norms(model, anatomy).values()
    return sum(p.numel() for norm in norms for p in norm.parameters(recurse=False))


def merge(model: nn.Module, injection: Injection) -> None:
    """Add the changes to the frozen gains and shifts and take the method out."""
    with torch.no_grad():
        for name, change in injection.adapters.items():
            assert isinstance(change, NormChange)  # noqa: S101  (put there by inject)
            norm: Any = model.get_submodule(name)
            norm.weight += change.gain_bias
            if change.shift_bias is not None:
                norm.bias += change.shift_bias
    injection.undo()


def to_peft(
    model: nn.Module, options: LayerOptions, injection: Injection, common: dict[str, Any]
) -> Any:
    """PEFT's LayerNorm tuning, which trains copies of the normalisations themselves."""
    import peft

    config = peft.LNTuningConfig(target_modules=sorted(injection.adapters), **common)
    peft_model = wrap_in_peft(model, config)
    for name, change in injection.adapters.items():
        assert isinstance(change, NormChange)  # noqa: S101  (put there by inject)
        norm: Any = peft_model.base_model.model.get_submodule(name).ln_tuning_layers["default"]
        copy_tensor(norm.weight, norm.weight + change.gain_bias)
        if change.shift_bias is not None:
            copy_tensor(norm.bias, norm.bias + change.shift_bias)
    return peft_model


def find_norms(model: nn.Module, anatomy: Anatomy) -> dict[str, Any]:
    """Every normalisation outside the head, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.LayerNorm) or _is_rms_norm(module))
        and not is_within(name, *anatomy.head_modules)
        and anatomy.covers(name)
    }


def _is_rms_norm(module: Any) -> bool:
    """Whether it divides by the root of the mean square: each model file has its own module."""
    if isinstance(module, nn.RMSNorm | nn.LayerNorm):
        return isinstance(module, nn.RMSNorm)
    parameters = dict(module.named_parameters(recurse=False))
    only_gain = [*parameters] == ["weight"] and parameters["weight"].ndim == 1
    return only_gain and any(name in vars(module) for name in _EPSILONS)


_EPSILONS = ("variance_epsilon", "eps")
"""Names of the number that keeps the root from 0: in T5 and Llama, and in Gemma."""


METHOD = Method(
    name=NAME,
    title="LayerNorm tuning",
    options=LayerOptions,
    learning_rates=(3e-4, 1e-3, 3e-3),
    inject=inject,
    count_parameters=count_parameters,
    merge=merge,
    peft_export=PeftExport(to_peft),
    saved_widths=3.9,
)
