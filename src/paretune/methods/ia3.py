"""IA3: keys, values and the inner feed-forward activations are rescaled, channel by channel.

Source: Liu et al. 2022, arXiv:2205.05638, section 3.3.
Equation: softmax(Q (l_k o K)^T / sqrt d) (l_v o V), and W_down (l_ff o act(W_up x)).
Shapes: l_k, l_v (width,) in every attention, l_ff (inner width,) in every layer.
Trained parameters: 2 * width for each attention (a decoder has two in a layer) and inner width for
each layer.
Start: the base model (all l = 1).
Merges: rows of W and b of key and value times l, columns of W_down times l_ff. PEFT export: IA3.
When: many tasks share one model and each may store only a few vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from paretune.methods.core.injection import Injection, attach, fill_peft_layers, get_linear
from paretune.methods.core.method import Method, PeftExport
from paretune.methods.core.options import LayerOptions
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import Layer

NAME = "ia3"


class Scale(nn.Module):
    """One scale for each channel of a layer's output.

    ``places`` are the channels that are scaled, of ``channels``; None: all. In a projection that
    makes query, key and value at once, the query is left alone.
    """

    places: Tensor | None

    def __init__(self, channels: int, places: tuple[int, ...] | None, device: torch.device) -> None:
        super().__init__()
        self.channels = channels
        index = None if places is None else torch.tensor(places, device=device)
        self.register_buffer("places", index, persistent=False)
        scaled = channels if places is None else len(places)
        self.l = nn.Parameter(torch.ones(scaled, device=device))

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """(rows, ..., in), (rows, ..., out) -> (rows, ..., out)."""
        return self.scale_channels(out)

    def scale_channels(self, x: Tensor) -> Tensor:
        """Every channel times its scale."""
        return x * self.factors()

    def factors(self) -> Tensor:
        """The scales of all channels, 1 of those that are left alone; (channels,)."""
        if self.places is None:
            return self.l
        factors = torch.ones(self.channels, dtype=self.l.dtype, device=self.l.device)
        return factors.index_copy(0, self.places, self.l)


class InputScale(Scale):
    """A scale of a layer's input, which a hook before the layer applies."""

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """The output as it is."""
        return out

    def scale_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Hook before the layer."""
        return self.scale_channels(args[0]), *args[1:]


def inject(
    model: nn.Module, anatomy: Anatomy, options: LayerOptions, context: PassContext, seed: int
) -> Injection:
    """Scale key, value and the input of the second feed-forward layer, in every layer."""
    scales: dict[str, nn.Module] = {}
    for layer in anatomy.layers:
        for name, places in _scaled_outputs(layer).items():
            linear = get_linear(model, name)
            scales[name] = Scale(linear.out_features, places, linear.weight.device)
        down = get_linear(model, layer.down)
        scales[layer.down] = InputScale(down.in_features, None, down.weight.device)
    injection = attach(model, NAME, scales)
    for name, scale in scales.items():
        if isinstance(scale, InputScale):
            hook = get_linear(model, name).register_forward_pre_hook(scale.scale_input)
            injection.changes.hook(hook)
    return injection


def count_parameters(model: nn.Module, anatomy: Anatomy, options: LayerOptions) -> int:
    """Widths of key, value and the inner feed-forward activations, over all layers."""
    return sum(
        sum(
            get_linear(model, name).out_features if places is None else len(places)
            for name, places in _scaled_outputs(layer).items()
        )
        + get_linear(model, layer.down).in_features
        for layer in anatomy.layers
    )


def merge(model: nn.Module, injection: Injection) -> None:
    """Multiply the scales into the frozen weights and take the method out."""
    with torch.no_grad():
        for name, scale in injection.adapters.items():
            assert isinstance(scale, Scale)  # noqa: S101  (put there by inject)
            layer = get_linear(model, name)
            factors = scale.factors()
            if isinstance(scale, InputScale):
                layer.weight.mul_(factors)
                continue
            layer.weight.mul_(factors[:, None])
            if layer.bias is not None:
                layer.bias.mul_(factors)
    injection.undo()


def to_peft(
    model: nn.Module, options: LayerOptions, injection: Injection, common: dict[str, Any]
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
        f"{name}.{NAME}.l": nn.Parameter(scale.factors().detach()) for name, scale in scales.items()
    }
    return fill_peft_layers(
        model, config, replace(injection, parameters=padded), NAME, {"l": "ia3_l"}
    )


def _scaled_outputs(layer: Layer) -> dict[str, tuple[int, ...] | None]:
    """The channels of each projection that are scaled; None: all."""
    scaled: dict[str, tuple[int, ...] | None] = {}
    for attention in layer.attentions:
        if attention.fused_output is None:
            scaled |= dict.fromkeys((attention.key, attention.value))
        else:
            scaled[attention.query] = attention.fused_output.keys_and_values
    return scaled


METHOD = Method(
    name=NAME,
    title="IA3",
    options=LayerOptions,
    learning_rates=(2e-3, 6e-3, 2e-2),
    inject=inject,
    count_parameters=count_parameters,
    merge=merge,
    peft_export=PeftExport(to_peft),
    saved_widths=7.3,
)
