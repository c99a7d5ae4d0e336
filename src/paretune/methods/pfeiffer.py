"""Pfeiffer adapters: a small bottleneck after the feed-forward part only.

Source: Pfeiffer et al. 2020 (AdapterFusion), arXiv:2005.00247, appendix A.2 and figure 5
(``adapters`` calls it seq_bn).
Equation: y = norm(f + x + U relu(D h + d) + u) with h = norm(f + x), where f is what the
feed-forward part gives, x its residual and norm the layer's own normalisation: it is met twice,
before and after the adapter, as the paper's search found best. A layer that normalises first
(ModernBERT) has none behind its feed-forward part; there h = f and y = x + f + U relu(D h + d) + u.
Shapes: as :mod:`paretune.methods.houlsby`, once in a layer; size = width / reduction_factor.
Trained parameters: 2 * width * size + size + width for each layer.
Start: the base model (U = 0, u = 0; D normal(0, 0.02)). Does not merge. PEFT export: none.
When: adapters are wanted at half of Houlsby's cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from paretune.methods import houlsby
from paretune.methods.core.injection import (
    Injection,
    add_undo_steps,
    attach,
    get_linear,
    make_generator,
)
from paretune.methods.core.options import EVERY_KIND, bounded, choice
from paretune.methods.core.run_axis import Fleet
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

NAME = "pfeiffer"
TITLE = "Pfeiffer adapters"
CODE_EPOCH = 2
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True
MIXES = True


@dataclass(frozen=True)
class Options(houlsby.Options):
    """``reduction_factor``: the width over the size of the bottleneck."""

    reduction_factor: int = bounded(16, 1, 4096)
    non_linearity: str = choice("relu", "silu", "gelu", "tanh")


class Bottleneck(houlsby.Bottleneck):
    """A bottleneck that reads one thing and changes another."""

    def forward(self, h: Tensor, out: Tensor) -> Tensor:
        """What is changed, and the bottleneck's change by what it reads."""
        return out + self.compute_change(h)


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put a bottleneck behind the feed-forward part of every layer."""
    parts: dict[str, nn.Module] = {}
    for layer in anatomy.layers:
        down = get_linear(model, layer.down)
        draws = [make_generator(derive_seed(seed, "init", NAME, layer.down)) for seed in seeds]
        parts[layer.down] = Bottleneck(down.out_features, options, fleet, draws, down.weight.device)
    return attach_behind_feed_forward(model, anatomy, NAME, parts)


def attach_behind_feed_forward(
    model: nn.Module, anatomy: Anatomy, key: str, parts: Mapping[str, nn.Module]
) -> Injection:
    """Let each part change the sum behind a layer's feed-forward part.

    ``parts`` are by the name of the second feed-forward layer, and stand beside it. A part is
    called with the normalised sum and the sum, and gives the sum that is then normalised; where
    the layer has no normalisation there, it is called with the feed-forward output twice.
    """
    removes = []
    for layer in anatomy.layers:
        if layer.down not in parts:
            continue
        part = parts[layer.down]
        if layer.output_norm is None:
            hook = model.get_submodule(layer.down).register_forward_hook(_make_output_hook(part))
        else:
            hook = model.get_submodule(layer.output_norm).register_forward_pre_hook(
                _make_sum_hook(part)
            )
        removes.append(hook.remove)
    return add_undo_steps(attach(model, key, parts, hooked=False), *removes)


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """2 * width * size + size + width for each layer."""
    return len(anatomy.layers) * houlsby.bottleneck_count(anatomy.width, options)


def _make_output_hook(part: Any) -> Any:
    return lambda module, given, out: part.fleet.apply_to_own_rows(part, out, out)


def _make_sum_hook(part: Any) -> Any:
    def changed(norm: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        # The normalisation is called as a module, with whatever a stack put beside it, so all
        # hooks of this kind meet that call: it is for reading, and none may change it.
        if getattr(norm, "being_read", False):
            return None
        norm.being_read = True
        try:
            h = norm(given[0])
        finally:
            del norm.being_read
        return (part.fleet.apply_to_own_rows(part, h, given[0]),)

    return changed
