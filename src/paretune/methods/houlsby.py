"""Houlsby adapters: a small bottleneck after the attention and after the feed-forward part.

Source: Houlsby et al. 2019, arXiv:1902.00751, section 2.1 (``adapters`` calls it double_seq_bn).
Equation: h <- h + U act(D h + d) + u, with h what the sublayer gives, before its residual.
Shapes: D (runs, size, width), d (runs, size), U (runs, width, size), u (runs, width), twice in a
layer; size = width / reduction_factor.
Trained parameters: 2 * (2 * width * size + size + width) for each layer. The paper also trains the
normalisations; like ``adapters`` and the work after it, this does not (stack it with ``bitfit``).
Start: the base model (U = 0, u = 0; D normal(0, 0.02); the paper: near the base).
Does not merge. PEFT export: none.
A decoder's attention to the source gets none, as in ``adapters``: two bottlenecks in every layer.
When: quality counts more than speed; two bottlenecks a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, attach, get_linear, make_generator
from paretune.methods.core.options import EVERY_KIND, bounded, choice
from paretune.methods.core.run_axis import Fleet, per_run_linear, per_run_vector
from paretune.models.structure.anatomy import Anatomy
from paretune.study import derive_seed

NAME = "houlsby"
TITLE = "Houlsby adapters"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STARTS_AS_BASE = True
MIXES = True

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Options:
    """``reduction_factor``: the width over the size of the bottleneck."""

    reduction_factor: int = bounded(16, 1, 4096)
    non_linearity: str = choice("silu", "gelu", "relu", "tanh")


class Bottleneck(nn.Module):
    """U act(D h + d) + u for each run."""

    def __init__(
        self,
        width: int,
        options: Options,
        fleet: Fleet,
        generators: list[torch.Generator],
        device: torch.device,
    ) -> None:
        super().__init__()
        self.fleet, self.act = fleet, _ACTIVATIONS[options.non_linearity]
        size = bottleneck_size(width, options)
        down = torch.empty(fleet.runs, size, width)
        for r, draw in enumerate(generators):
            down[r].normal_(0, 0.02, generator=draw)
        self.D = nn.Parameter(down.to(device))
        self.D_bias = nn.Parameter(torch.zeros(fleet.runs, size, device=device))
        self.U = nn.Parameter(torch.zeros(fleet.runs, width, size, device=device))
        self.U_bias = nn.Parameter(torch.zeros(fleet.runs, width, device=device))

    def compute_change(self, h: Tensor) -> Tensor:
        """(rows, tokens, width) -> (rows, tokens, width)."""
        low = per_run_linear(h, self.D, self.fleet)
        low = self.act(low + per_run_vector(low, self.D_bias, self.fleet))
        high = per_run_linear(low, self.U, self.fleet)
        return high + per_run_vector(high, self.U_bias, self.fleet)

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """What the sublayer gives, and the bottleneck's change of it."""
        return out + self.compute_change(out)


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Put a bottleneck behind both sublayers of every layer."""
    return attach_bottlenecks(model, NAME, _sublayer_outputs(anatomy), options, fleet, seeds)


def attach_bottlenecks(
    model: nn.Module,
    key: str,
    places: Iterable[str],
    options: Options,
    fleet: Fleet,
    seeds: list[int],
) -> Injection:
    """A bottleneck behind each of these linear layers."""

    def made(name: str) -> Bottleneck:
        layer = get_linear(model, name)
        draws = [make_generator(derive_seed(seed, "init", key, name)) for seed in seeds]
        return Bottleneck(layer.out_features, options, fleet, draws, layer.weight.device)

    return attach(model, key, {name: made(name) for name in places})


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """2 * width * size + size + width, twice in each layer."""
    return len(list(_sublayer_outputs(anatomy))) * bottleneck_count(anatomy.width, options)


def bottleneck_size(width: int, options: Options) -> int:
    """Width over the reduction factor, one at least."""
    return max(1, width // options.reduction_factor)


def bottleneck_count(width: int, options: Options) -> int:
    """Trained parameters of one bottleneck."""
    size = bottleneck_size(width, options)
    return 2 * width * size + size + width


def _sublayer_outputs(anatomy: Anatomy) -> Iterable[str]:
    return [name for layer in anatomy.layers for name in (layer.self_attention.output, layer.down)]
