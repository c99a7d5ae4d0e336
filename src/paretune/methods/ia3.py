"""IA3: keys, values and the inner feed-forward activations are rescaled, channel by channel.

Source: Liu et al. 2022, arXiv:2205.05638, section 3.3.
Equation: softmax(Q (l_k o K)^T / sqrt d) (l_v o V), and W_down (l_ff o act(W_up x)).
Shapes: l_k, l_v (runs, width) in every attention, l_ff (runs, inner width) in every layer.
Trained parameters: 2 * width for each attention (a decoder has two in a layer) and inner width for
each layer.
Start: the base model (all l = 1).
Merges: rows of W and b of key and value times l, columns of W_down times l_ff. PEFT export: IA3.
When: many tasks share one model and each may store only a few vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, attach, get_linear
from paretune.methods.core.method import Method, always
from paretune.methods.core.peft_export import fill_peft_layers
from paretune.methods.core.run_axis import Fleet, per_run_vector
from paretune.models.changes import ModelChanges
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import Layer

NAME = "ia3"


@dataclass(frozen=True)
class Options:
    """IA3 has no options beside the learning rate."""


class Scale(nn.Module):
    """One scale for each run and channel of a layer's output.

    ``start`` is the first channel that is scaled: in a projection that makes query, key and value
    at once, the query is left alone.
    """

    def __init__(self, channels: int, start: int, fleet: Fleet, device: torch.device) -> None:
        super().__init__()
        self.start, self.fleet = start, fleet
        self.l = nn.Parameter(torch.ones(fleet.runs, channels, device=device))

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, ..., in), (rows, ..., out) -> (rows, ..., out)."""
        return self.scale_channels(out)

    def scale_channels(self, x: Tensor) -> Tensor:
        """The channels from ``start`` on, times the scale."""
        scaled = x[..., self.start :]
        scaled = scaled * per_run_vector(scaled, self.l, self.fleet)
        return torch.cat([x[..., : self.start], scaled], -1) if self.start else scaled


class InputScale(Scale):
    """A scale of a layer's input, which a hook before the layer applies."""

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """The output as it is."""
        return out


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Scale key, value and the input of the second feed-forward layer, in every layer."""
    scales: dict[str, nn.Module] = {}
    changes = ModelChanges()
    for layer in anatomy.layers:
        for name, (channels, start) in _scaled_outputs(model, layer).items():
            scales[name] = Scale(channels, start, fleet, get_linear(model, name).weight.device)
        down = get_linear(model, layer.down)
        scale = InputScale(down.in_features, 0, fleet, down.weight.device)
        scales[layer.down] = scale
        changes.hook(down.register_forward_pre_hook(_make_input_hook(scale)))
    injection = attach(model, NAME, scales)
    injection.changes.absorb(changes)
    return injection


def count_parameters(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Widths of key, value and the inner feed-forward activations, over all layers."""
    return sum(
        sum(channels for channels, _ in _scaled_outputs(model, layer).values())
        + get_linear(model, layer.down).in_features
        for layer in anatomy.layers
    )


def merge(model: nn.Module, injection: Injection) -> None:
    """Multiply the scales into the frozen weights and take the method out."""
    with torch.no_grad():
        for name, scale in injection.adapters.items():
            assert isinstance(scale, Scale)  # noqa: S101  (put there by inject)
            layer = get_linear(model, name)
            if isinstance(scale, InputScale):
                layer.weight *= scale.l[0]
                continue
            layer.weight[scale.start :] *= scale.l[0, :, None]
            if layer.bias is not None:
                layer.bias[scale.start :] *= scale.l[0]
    injection.undo()


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """PEFT's IA3 with the same tensors.

    Where one layer makes query, key and value, PEFT scales the query too: by 1 here, and by what it
    learns if PEFT trains the adapter further.
    """
    import peft

    scales: dict[str, Any] = injection.adapters
    inner = [name for name, scale in scales.items() if isinstance(scale, InputScale)]
    config = peft.IA3Config(
        target_modules=sorted(scales), feedforward_modules=sorted(inner), **common
    )
    padded = {
        f"{name}.{NAME}.l": nn.Parameter(F.pad(scale.l.detach(), (scale.start, 0), value=1.0))
        for name, scale in scales.items()
    }
    return fill_peft_layers(
        model, config, replace(injection, parameters=padded), NAME, {"l": "ia3_l"}
    )


def _scaled_outputs(model: nn.Module, layer: Layer) -> dict[str, tuple[int, int]]:
    """For each projection: how many channels are scaled, and the first of them."""
    scaled: dict[str, tuple[int, int]] = {}
    for attention in layer.attentions:
        if attention.fused:
            width = get_linear(model, attention.query).out_features // 3
            scaled[attention.query] = (2 * width, width)
        else:
            for name in (attention.key, attention.value):
                scaled[name] = (get_linear(model, name).out_features, 0)
    return scaled


def _make_input_hook(scale: InputScale) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
    return lambda module, args: (
        scale.fleet.apply_to_own_rows(scale.scale_channels, args[0]),
        *args[1:],
    )


METHOD = Method(
    name=NAME,
    title="IA3",
    options=Options,
    learning_rates=(1e-3, 3e-3, 1e-2),
    starts_as_base=True,
    inject=inject,
    count_parameters=count_parameters,
    merge=merge,
    to_peft=to_peft,
    mixes=always,
)
