"""Pfeiffer adapters: a small bottleneck after the feed-forward part only.

Source: Pfeiffer et al. 2020 (AdapterFusion), arXiv:2005.00247, section 2.2.
Equation: h <- h + U relu(D h + d) + u, with h what the feed-forward part gives before its residual.
Shapes: as :mod:`paretune.methods.houlsby`, once in a layer; size = width / reduction_factor.
Trained parameters: 2 * width * size + size + width for each layer.
Start: the base model (U = 0, u = 0; D normal(0, 0.02)). Does not merge. PEFT export: none.
When: adapters are wanted at half of Houlsby's cost.

``adapters`` by default reads h after the layer's own normalisation (``original_ln_before``), which
a model that normalises first does not have; this is its form without.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from paretune.methods import houlsby
from paretune.methods.fleet import Fleet
from paretune.methods.injection import Injection
from paretune.methods.options import ENCODER_KINDS, choice, number
from paretune.models.anatomy import Anatomy

NAME = "pfeiffer"
TITLE = "Pfeiffer adapters"
CODE_EPOCH = 1
KINDS = ENCODER_KINDS
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True


@dataclass(frozen=True)
class Options(houlsby.Options):
    """``reduction_factor``: the width over the size of the bottleneck."""

    reduction_factor: int = number(16, 1, 4096)
    non_linearity: str = choice("relu", "silu", "gelu", "tanh")


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put a bottleneck behind the feed-forward part of every layer."""
    places = [layer.down for layer in anatomy.layers]
    return houlsby.behind(model, NAME, places, options, fleet, seeds)


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """2 * width * size + size + width for each layer."""
    return len(anatomy.layers) * houlsby.bottleneck_count(anatomy.width, options)
