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
from paretune.models.structure.layers import SUPPORTED_FAMILIES


def find_backbone_parameters(model: Any) -> frozenset[str]:
    """Names of the parameters on which the last hidden state depends, word embeddings included.

    Of a model with encoder and decoder, the last hidden state is the decoder's, and the embeddings
    are those of both.

    Args:
        model: just opened, nothing frozen yet.

    Raises:
        ModelError: the model cannot be run from embeddings.
    """
    tables = find_word_embeddings(model)
    start = torch.zeros(1, 4, tables[0].weight.shape[1], device=tables[0].weight.device)
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            hidden = _compute_last_hidden_state(model, start)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be run from embeddings ({error}).",
            remedy=SUPPORTED_FAMILIES,
        ) from None
    finally:
        model.train(training)
    reached = _find_leaves(hidden) | {id(p) for words in tables for p in words.parameters()}
    return frozenset(name for name, p in model.named_parameters() if id(p) in reached)


def find_untrainable_parameters(model: Any) -> tuple[str, ...]:
    """Names of the parameters that are no weights: computed, and never saved.

    Marian's positions are made untrainable, but ``from_pretrained`` forgets that; what tells them
    apart for certain is that a checkpoint leaves them out, so whatever was trained would be lost.
    """
    unsaved = getattr(model, "_keys_to_ignore_on_save", None) or ()
    return tuple(name for name, _ in model.named_parameters() if name in unsaved)


def is_encoder_decoder(model: Any) -> bool:
    """Whether the model has an encoder and a decoder."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def find_word_embeddings(model: Any) -> list[Any]:
    """The modules in which the model looks up words: the encoder's, then the decoder's."""
    if is_encoder_decoder(model):
        # The model's own table may be a third one, which shares their weights and is never called.
        return [part.get_input_embeddings() for part in (model.get_encoder(), model.get_decoder())]
    return [model.get_input_embeddings()]


def _compute_last_hidden_state(model: Any, start: Tensor) -> Tensor:
    if not is_encoder_decoder(model):
        hidden: Tensor = model.base_model(inputs_embeds=start)[0]
        return hidden
    source = model.get_encoder()(inputs_embeds=start)[0]
    # A mask of the attention itself: one that is made from none is looked at, which meta is not.
    open_to_all = start.new_zeros(1, 1, start.shape[1], start.shape[1])
    decoded: Tensor = model.get_decoder()(
        inputs_embeds=start,
        attention_mask=open_to_all,
        encoder_hidden_states=source,
        use_cache=False,
    )[0]
    return decoded


def find_head_modules(model: nn.Module, backbone: frozenset[str]) -> tuple[str, ...]:
    """The outermost modules with parameters, none of which belongs to the backbone."""
    outside: list[str] = []
    for name, module in model.named_modules():
        own = [f"{name}.{n}" if name else n for n, _ in module.named_parameters()]
        inside = any(name.startswith(f"{outer}.") for outer in outside)
        if own and not inside and not backbone.intersection(own):
            outside.append(name)
    return tuple(outside)


def _find_leaves(hidden: Tensor) -> set[int]:
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
