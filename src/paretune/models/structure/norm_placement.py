"""Post-norm or pre-norm: which normalisation, if any, gives a layer's output. Seen in a run.

Whether a layer normalises behind its feed-forward part (BERT) or before it (ModernBERT) cannot be
read from the order in which its modules are declared: XLM-RoBERTa-XL declares last what it uses
first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from paretune.models.changes import ModelChanges
from paretune.models.structure.layers import Layer


@contextmanager
def watch_output_norms(model: nn.Module, layers: Sequence[Layer]) -> Iterator[dict[str, str]]:
    """A dictionary that a forward pass of the model fills while the block runs.

    Yields:
        By the name of a layer, the name of the normalisation whose output is the layer's own.
    """
    output_norms: dict[str, str] = {}
    normed: dict[str, Tensor] = {}  # the tensors themselves: an address alone may come again

    def record(name: str, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        normed[name] = out

    def compare(layer: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        hidden = out[0] if isinstance(out, tuple) else out
        for name, states in normed.items():
            if states is hidden:
                output_norms[layer] = name
        normed.clear()

    with ModelChanges() as hooks:
        for layer in layers:
            block = model.get_submodule(layer.name)
            for own, module in block.named_modules():
                if isinstance(module, nn.LayerNorm | nn.RMSNorm):
                    hook = partial(record, f"{layer.name}.{own}")
                    hooks.hook(module.register_forward_hook(hook))
            hooks.hook(block.register_forward_hook(partial(compare, layer.name)))
        yield output_norms
