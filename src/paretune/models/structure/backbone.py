"""Which parameters make a model's last hidden state: traced, not guessed.

The model is run once on four positions, and the graph that autograd noted is walked. So a pooler
inside the base model is told apart from a final norm or an embedding projection without knowing
either by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from paretune.errors import ModelError
from paretune.models.structure.layers import SUPPORTED_FAMILIES
from paretune.models.structure.topology import Topology


def find_backbone_parameters(model: Any, topology: Topology) -> frozenset[str]:
    """Names of the parameters on which the last hidden state depends, word embeddings included.

    Args:
        model: just loaded, nothing frozen yet.
        topology: of the model.

    Raises:
        ModelError: the model cannot be run from embeddings.
    """
    tables = topology.word_embeddings(model)
    embeddings = torch.zeros(1, 4, tables[0].weight.shape[1], device=tables[0].weight.device)
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            hidden = topology.last_hidden_state(model, embeddings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be run from embeddings ({error}).",
            remedy=SUPPORTED_FAMILIES,
        ) from None
    finally:
        model.train(training)
    reached = _find_leaves(hidden).union(*(table.parameters() for table in tables))
    return frozenset(name for name, p in model.named_parameters() if p in reached)


def find_untrainable_parameters(model: Any) -> tuple[str, ...]:
    """Names of the parameters that are no weights: computed, and never saved.

    Marian's positions are made untrainable, but ``from_pretrained`` forgets that; what tells them
    apart for certain is that a checkpoint leaves them out, so whatever was trained would be lost.
    """
    unsaved = getattr(model, "_keys_to_ignore_on_save", None) or ()
    return tuple(name for name, _ in model.named_parameters() if name in unsaved)


def _find_leaves(hidden: Tensor) -> set[Tensor]:
    """The leaf tensors that ``hidden`` was computed from; tensors are hashed by identity."""
    seen: set[Any] = set()
    leaves: set[Tensor] = set()
    waiting: list[Any] = [hidden.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # only nodes that accumulate gradients have one
        if leaf is not None:
            leaves.add(leaf)
        waiting.extend(following for following, _ in node.next_functions)
    return leaves
