"""Start a forward pass at a higher layer, from what the layers below gave before.

What is below everything that a run trains gives the same in every epoch, where no dropout is drawn
there: see :mod:`.activation_cache`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from paretune.models.changes import ModelChanges
from paretune.models.packing.state import Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.names import is_within, parent_name


class StopForward(Exception):  # noqa: N818 (not an error: the way out of a model half-way)
    """The hidden states that were asked for are computed."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def count_frozen_layers(anatomy: Anatomy, touched: Iterable[str]) -> int:
    """How many layers lie below everything that a method trains or stands beside.

    Args:
        anatomy: of a model with one stack.
        touched: names of the trained tensors and of the modules that a method changed.

    Returns:
        0 where anything is outside the layers and the head; all layers where only the head is
        trained.
    """
    lowest = len(anatomy.layers)
    for name in touched:
        if any(is_within(name, module) for module in anatomy.head_modules):
            continue
        inside = [i for i, layer in enumerate(anatomy.layers) if is_within(name, layer.name)]
        lowest = min(lowest, inside[0] if inside else 0)
    return lowest


def skip_layers(
    changes: ModelChanges, model: Any, anatomy: Anatomy, packing: Packing, depth: int
) -> None:
    """Let the model begin at layer ``depth``, with ``packing.cached_hidden``."""

    def give_cached(*args: Any, **kwargs: Any) -> Any:
        return packing.cached_hidden

    def pass_on(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    changes.set(model.get_submodule(parent_name(anatomy.word_embeddings)), "forward", give_cached)
    for layer in anatomy.layers[:depth]:
        changes.set(model.get_submodule(layer.name), "forward", pass_on)
    changes.set(packing, "skipped_layers", depth)


def compute_layer_input(model: Any, anatomy: Anatomy, depth: int, inputs: dict[str, Any]) -> Tensor:
    """The input of layer ``depth``, or the output of the last one; (rows, 1, width)."""

    def stop(module: nn.Module, args: Any, out: Tensor) -> None:
        raise StopForward(out)

    below = model.get_submodule(anatomy.layers[depth - 1].name)
    handle = below.register_forward_hook(stop)
    try:
        model(**inputs)
    except StopForward as stopped:
        return stopped.hidden
    finally:
        handle.remove()
    raise RuntimeError(f"{type(model).__name__} does not run layer {depth - 1}.")
