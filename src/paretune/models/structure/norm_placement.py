"""Which normalisation has the last word in a layer, if any has: seen in a run, not guessed.

Whether a layer normalises behind its feed-forward part (BERT) or before it (ModernBERT) cannot be
told from where its normalisations are written down: XLM-RoBERTa-XL has one last and uses it first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from paretune.models.structure.layers import Layer


@contextmanager
def watch_output_norms(model: nn.Module, layers: Sequence[Layer]) -> Iterator[dict[str, str]]:
    """While it is open, a run of the model fills the dictionary.

    Yields:
        By the name of a layer, the name of the normalisation whose output is the layer's own.
    """
    found: dict[str, str] = {}
    given: dict[str, Tensor] = {}  # the tensors themselves: an identity alone may come again
    handles = []

    def note(name: str, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        given[name] = out

    def compare(layer: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        states = out[0] if isinstance(out, tuple) else out
        for name, normed in given.items():
            if normed is states:
                found[layer] = name
        given.clear()

    for layer in layers:
        block = model.get_submodule(layer.name)
        for own, module in block.named_modules():
            if isinstance(module, nn.LayerNorm | nn.RMSNorm):
                name = f"{layer.name}.{own}"
                handles.append(module.register_forward_hook(partial(note, name)))
        handles.append(block.register_forward_hook(partial(compare, layer.name)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
