"""What a model is made of, found by structure: one description for all encoder architectures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from paretune.errors import MethodError, ModelError
from paretune.models.backbone import backbone_parameters, head_modules
from paretune.models.blocks import Attention, Layer, find_layers
from paretune.models.norms import last_norms

__all__ = ["Anatomy", "Attention", "Layer", "anatomy", "embeds_path_agrees", "targets"]

ROLES: dict[str, Callable[[Layer], tuple[str, ...]]] = {
    "query": lambda layer: (layer.attention.query,),
    "key": lambda layer: (layer.attention.key,),
    "value": lambda layer: (layer.attention.value,),
    "attention_output": lambda layer: (layer.attention.output,),
    "feed_forward_up": lambda layer: layer.up,
    "feed_forward_down": lambda layer: (layer.down,),
    "all_linear": lambda layer: (
        *(layer.attention.query, layer.attention.key, layer.attention.value),
        *(layer.attention.output, *layer.up, layer.down),
    ),
}
"""What a role's linear layers are in one layer. Fused projections stand for all their roles."""


@dataclass(frozen=True)
class Anatomy:
    """Names of a model's parts.

    Attributes:
        width: of the hidden state.
        embedding_width: of the word embeddings; ELECTRA's differs from ``width``.
        embeddings: module name of the word embeddings.
        layers: the encoder layers, first to last.
        head: the outermost modules after the last hidden state: pooler, classifier.
        linears: names of every linear layer of the backbone, those of ``layers`` among them.
        max_length: tokens that fit, special tokens included; None where nothing limits them.
        pad_id: the config's padding token, or None.
    """

    width: int
    embedding_width: int
    embeddings: str
    layers: tuple[Layer, ...]
    head: tuple[str, ...]
    linears: tuple[str, ...]
    max_length: int | None
    pad_id: int | None


def anatomy(model: Any) -> Anatomy:
    """Describe a ``transformers`` encoder, with weights or on the meta device.

    Raises:
        ModelError: an architecture without what was looked for; the text shows both.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ModelError(
            f"{type(model).__name__} has an encoder and a decoder, as translation models do.",
            remedy="For classification choose an encoder (BERT, RoBERTa, DeBERTa, ModernBERT ...).",
        )
    layers = find_layers(model)
    embeddings, words = _word_embeddings(model)
    with last_norms(model, layers) as norms:
        backbone = backbone_parameters(model)
    layers = tuple(replace(layer, norm=norms.get(layer.name)) for layer in layers)
    linears = tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" in backbone
    )
    return Anatomy(
        width=model.get_submodule(layers[0].attention.query).in_features,
        embedding_width=words.embedding_dim,
        embeddings=embeddings,
        layers=layers,
        head=head_modules(model, backbone),
        linears=linears,
        max_length=_max_length(model, embeddings),
        pad_id=getattr(model.config, "pad_token_id", None),
    )


def targets(anatomy: Anatomy, names: Sequence[str], *, allow_unmatched: bool = False) -> list[str]:
    """Module names of the linear layers that ``names`` mean, in the order of the model.

    A name is a role (``query``, ``key``, ``value``, ``attention_output``, ``feed_forward_up``,
    ``feed_forward_down``, ``all_linear``) or the end of a module's name, as in PEFT
    (``attention.self.query``, ``dense``). ``allow_unmatched`` passes over names that match nothing,
    to repeat a study that had such; it may leave no target at all.

    Raises:
        MethodError: a name matches nothing; the text shows what exists.
    """
    chosen: set[str] = set()
    unmatched = []
    for name in names:
        if name in ROLES:
            chosen.update(part for layer in anatomy.layers for part in ROLES[name](layer))
            continue
        hits = [n for n in anatomy.linears if n == name or n.endswith(f".{name}")]
        chosen.update(hits)
        if not hits:
            unmatched.append(name)
    if unmatched and not allow_unmatched:
        listed = ", ".join(f'"{name}"' for name in unmatched)
        raise MethodError(
            f"target_modules: {listed} {'match' if len(unmatched) > 1 else 'matches'} no linear "
            f"layer of the model.\nIts first layer has: {', '.join(_first_layer(anatomy))}.\n",
            remedy=f"Name one of these, or a role: {', '.join(ROLES)}.",
        )
    return [name for name in anatomy.linears if name in chosen]


def embeds_path_agrees(model: Any, *, tolerance: float = 1e-5) -> bool:
    """Whether the model gives the same for tokens and for their embeddings.

    Prompt methods hand the model embeddings. An architecture that scales or changes the embeddings
    only when it looks them up itself (Marian multiplies by sqrt(width)) would read a whisper.
    Leaves the model as it was; needs real weights.
    """
    words = model.get_input_embeddings()
    rows = len(words.weight)
    # Ordinary tokens from the middle of the vocabulary: neither padding nor special.
    ids = torch.linspace(rows // 2, rows - 1, 6, device=words.weight.device).long()[None]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            mask = torch.ones_like(ids)
            by_ids = model.base_model(input_ids=ids, attention_mask=mask)[0]
            by_embeds = model.base_model(inputs_embeds=words.weight[ids], attention_mask=mask)[0]
    finally:
        model.train(training)
    return torch.allclose(by_ids, by_embeds, rtol=tolerance, atol=tolerance)


def _word_embeddings(model: Any) -> tuple[str, nn.Embedding]:
    words = model.get_input_embeddings()
    for name, module in model.named_modules():
        if module is words and isinstance(module, nn.Embedding):
            return name, module
    raise ModelError(
        f"{type(model).__name__} has no table of word embeddings "
        f"(its input goes through {type(words).__name__})."
    )


def _max_length(model: Any, embeddings: str) -> int | None:
    """Rows of the position table that tokens can use; the trained length of rotary positions."""
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    around = model.get_submodule(embeddings.rpartition(".")[0])
    for module in around.children():
        if module is model.get_submodule(embeddings) or not isinstance(module, nn.Embedding):
            continue
        if module.num_embeddings == limit:
            # RoBERTa counts positions from padding_idx + 1; the rows before are never used.
            return limit - (0 if module.padding_idx is None else module.padding_idx + 1)
    rotary = any("inv_freq" in name for name, _ in model.named_buffers())
    return limit if rotary else None


def _first_layer(anatomy: Anatomy) -> list[str]:
    prefix = f"{anatomy.layers[0].name}."
    return [n.removeprefix(prefix) for n in anatomy.linears if n.startswith(prefix)]
