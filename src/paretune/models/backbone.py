"""What of a model makes its last hidden state, and what comes after it: traced, not guessed.

The model is run once on four positions, and the graph that autograd noted is walked. So a pooler
inside the base model is told apart from a final norm or an embedding projection without knowing
either by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from paretune.errors import ModelError


def backbone_parameters(model: Any) -> frozenset[str]:
    """Names of the parameters on which the last hidden state depends, word embeddings included.

    Args:
        model: just opened, in evaluation mode, nothing frozen yet.

    Raises:
        ModelError: the model cannot be run from embeddings.
    """
    words = model.get_input_embeddings()
    start = torch.zeros(1, 4, words.weight.shape[1], device=words.weight.device)
    with torch.enable_grad():
        try:
            hidden = model.base_model(inputs_embeds=start)[0]
        except (TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{type(model).__name__} cannot be run from embeddings ({error}).",
                remedy="Encoders (BERT, RoBERTa, DistilBERT, DeBERTa, ELECTRA, ModernBERT) work.",
            ) from None
    reached = _leaves(hidden) | {id(p) for p in words.parameters()}
    return frozenset(name for name, p in model.named_parameters() if id(p) in reached)


def head_modules(model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
    """The outermost modules with parameters, none of which belongs to the backbone."""
    outside: list[str] = []
    for name, module in model.named_modules():
        own = [f"{name}.{n}" if name else n for n, _ in module.named_parameters()]
        inside = any(name.startswith(f"{outer}.") for outer in outside)
        if own and not inside and not backbone.intersection(own):
            outside.append(name)
    return tuple(outside)


def _leaves(hidden: Tensor) -> set[int]:
    """Identities of the leaf tensors that ``hidden`` was computed from."""
    seen: set[Any] = set()
    leaves: set[int] = set()
    waiting: list[Any] = [hidden.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return leaves
