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
from functools import partial
from typing import Any

from torch import Tensor, nn

from paretune.methods import houlsby
from paretune.methods.core.injection import Injection, attach
from paretune.methods.core.method import Method
from paretune.methods.core.options import LayerOptions
from paretune.models.pass_context import PassContext
from paretune.models.structure.anatomy import Anatomy

NAME = "pfeiffer"


class PfeifferOptions(LayerOptions, houlsby.BottleneckOptions):
    """``reduction_factor``: the width over the size of the bottleneck."""

    non_linearity: houlsby.Activation = "relu"


class PfeifferBottleneck(houlsby.Bottleneck):
    """A bottleneck that reads one tensor and changes another."""

    def forward(self, h: Tensor, out: Tensor) -> Tensor:
        """``out`` and the bottleneck's change, computed from ``h``."""
        return out + self.compute_change(h)


def inject(
    model: nn.Module, anatomy: Anatomy, options: PfeifferOptions, context: PassContext, seed: int
) -> Injection:
    """Put a bottleneck behind the feed-forward part of every layer."""
    names = [layer.down for layer in anatomy.layers]
    adapters = houlsby.make_bottlenecks(PfeifferBottleneck, model, names, options, seed, NAME)
    return attach_behind_feed_forward(model, anatomy, NAME, adapters)


def attach_behind_feed_forward(
    model: nn.Module, anatomy: Anatomy, key: str, adapters: Mapping[str, nn.Module]
) -> Injection:
    """Let each adapter change the sum behind a layer's feed-forward part.

    ``adapters`` are by the name of the second feed-forward layer, and become its children ``key``.
    An adapter is called with the normalised sum and the sum, and gives the sum that is then
    normalised; where the layer has no normalisation there, it is called with the feed-forward
    output twice.
    """
    injection = attach(model, key, adapters, hooked=False)
    for layer in anatomy.layers:
        if layer.down not in adapters:
            continue
        adapter: Any = adapters[layer.down]
        if layer.output_norm is None:
            # Where all of the base is in bf16, what follows is in the layer's dtype.
            change = partial(_change_output, adapter, keeps_dtype=anatomy.reads_causally)
            hook = model.get_submodule(layer.down).register_forward_hook(change)
        else:
            norm = model.get_submodule(layer.output_norm)
            hook = norm.register_forward_pre_hook(partial(_change_sum, adapter))
        injection.changes.hook(hook)
    return injection


_being_called: set[nn.Module] = set()
"""Normalisations that one of these hooks is calling."""


def _change_output(
    adapter: Any, module: nn.Module, args: Any, out: Tensor, *, keeps_dtype: bool
) -> Tensor:
    changed: Tensor = adapter(out, out)
    return changed.to(out.dtype) if keeps_dtype else changed


def _change_sum(adapter: Any, norm: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    # The normalisation is called as a module, with whatever a stack put beside it, so all hooks of
    # this kind meet that call: it is for reading, and none may change it.
    if norm in _being_called:
        return None
    _being_called.add(norm)
    try:
        h = norm(args[0])
    finally:
        _being_called.remove(norm)
    return (adapter(h, args[0]),)


def count_parameters(model: nn.Module, anatomy: Anatomy, options: houlsby.BottleneckOptions) -> int:
    """2 * width * size + size + width for each layer."""
    return len(anatomy.layers) * options.count(anatomy.width)


METHOD = Method(
    name=NAME,
    title="Pfeiffer adapters",
    options=PfeifferOptions,
    learning_rates=(6e-4, 2e-3, 6e-3),
    # LLM-Adapters (Hu et al. 2023, arXiv:2304.01933) takes 3e-4 on LLaMA.
    decoder_learning_rates=(1e-4, 3e-4, 1e-3),
    inject=inject,
    count_parameters=count_parameters,
    code_epoch=2,
    saved_widths=2.6,
)
