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

from paretune.methods.core.injection import Injection, add_undo_steps, attach, get_linear
from paretune.methods.core.options import EVERY_KIND
from paretune.methods.core.peft_export import fill_peft_layers
from paretune.methods.core.run_axis import Fleet, per_run_vector
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import Layer

NAME = "ia3"
TITLE = "IA3"
CODE_EPOCH = 1
KINDS = EVERY_KIND
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
STARTS_AS_BASE = True
MIXES = True


@dataclass(frozen=True)
class Options:
    """IA3 has no options beside the learning rate."""


class Scale(nn.Module):
    """One scale for each run and channel, on what a layer gives or on what it is given.

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
        """Channels from ``start`` on, times the scale."""
        rest = x[..., self.start :]
        rest = rest * per_run_vector(rest, self.l, self.fleet)
        return torch.cat([x[..., : self.start], rest], -1) if self.start else rest


class InputScale(Scale):
    """A scale on what a layer is given; a hook before the layer applies it."""

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """The output as it is."""
        return out


def inject(
    model: nn.Module, anatomy: Anatomy, options: Options, fleet: Fleet, seeds: list[int]
) -> Injection:
    """Scale key, value and the input of the second feed-forward layer, in every layer."""
    parts: dict[str, nn.Module] = {}
    handles = []
    for layer in anatomy.layers:
        for name, (channels, start) in _scaled_outputs(model, layer).items():
            device = get_linear(model, name).weight.device
            parts[name] = Scale(channels, start, fleet, device)
        down = get_linear(model, layer.down)
        part = parts[layer.down] = InputScale(down.in_features, 0, fleet, down.weight.device)
        handles.append(down.register_forward_pre_hook(_make_input_hook(part)))
    return add_undo_steps(attach(model, NAME, parts), *(handle.remove for handle in handles))


def to_peft(
    model: nn.Module, options: Options, injection: Injection, common: dict[str, Any]
) -> Any:
    """The same by PEFT, on a fresh base; ``common`` goes to its config.

    Where one layer makes query, key and value, PEFT scales the query too: by 1 here, and by what it
    learns if PEFT trains the adapter further.
    """
    import peft

    parts: dict[str, Any] = injection.adapters
    inner = [name for name, part in parts.items() if isinstance(part, InputScale)]
    config = peft.IA3Config(
        target_modules=sorted(parts), feedforward_modules=sorted(inner), **common
    )
    whole = {
        f"{name}.{NAME}.l": nn.Parameter(F.pad(part.l.detach(), (part.start, 0), value=1.0))
        for name, part in parts.items()
    }
    return fill_peft_layers(
        model, config, replace(injection, parameters=whole), NAME, {"l": "ia3_l"}
    )


def parameter_count(model: nn.Module, anatomy: Anatomy, options: Options) -> int:
    """Widths of key, value and the inner feed-forward activations, over all layers."""
    return sum(
        sum(channels for channels, _ in _scaled_outputs(model, layer).values())
        + get_linear(model, layer.down).in_features
        for layer in anatomy.layers
    )


def merge(model: nn.Module, injection: Injection) -> None:
    """Multiply the scales into the frozen weights and take the method out."""
    with torch.no_grad():
        for name, part in injection.adapters.items():
            given: Any = part
            layer = get_linear(model, name)
            if isinstance(part, InputScale):
                layer.weight *= given.l[0]
                continue
            layer.weight[given.start :] *= given.l[0, :, None]
            if layer.bias is not None:
                layer.bias[given.start :] *= given.l[0]
    injection.undo()


def _scaled_outputs(model: nn.Module, layer: Layer) -> dict[str, tuple[int, int]]:
    """By name of the projection: how many channels are scaled, and from which on."""
    scaled: dict[str, tuple[int, int]] = {}
    for attention in layer.attentions:
        if attention.fused:
            width = get_linear(model, attention.query).out_features // 3
            scaled[attention.query] = (2 * width, width)
        else:
            parts = (attention.key, attention.value)
            scaled |= {name: (get_linear(model, name).out_features, 0) for name in parts}
    return scaled


def _make_input_hook(part: InputScale) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
    return lambda module, given: (
        part.fleet.apply_to_own_rows(part.scale_channels, given[0]),
        *given[1:],
    )
