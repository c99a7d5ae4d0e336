"""What a model is made of, found by structure: one description for all architectures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from paretune.errors import MethodError, ModelError
from paretune.models.structure.backbone import (
    find_backbone_parameters,
    find_head_modules,
    find_untrainable_parameters,
    find_word_embeddings,
    is_encoder_decoder,
)
from paretune.models.structure.layers import SUPPORTED_FAMILIES, Attention, Layer, find_layers
from paretune.models.structure.norm_placement import watch_output_norms

__all__ = [
    "Anatomy",
    "Attention",
    "Layer",
    "accepts_embeddings",
    "find_target_modules",
    "read_anatomy",
]

ROLES: dict[str, Callable[[Layer], tuple[str, ...]]] = {
    "query": lambda layer: tuple(a.query for a in layer.attentions),
    "key": lambda layer: tuple(a.key for a in layer.attentions),
    "value": lambda layer: tuple(a.value for a in layer.attentions),
    "attention_output": lambda layer: tuple(a.output for a in layer.attentions),
    "feed_forward_up": lambda layer: layer.up,
    "feed_forward_down": lambda layer: (layer.down,),
    "all_linear": lambda layer: (
        *(part for a in layer.attentions for part in (a.query, a.key, a.value, a.output)),
        *(*layer.up, layer.down),
    ),
}
"""What a role's linear layers are in one layer, a decoder's attention to the source included.
Fused projections stand for all their roles."""


@dataclass(frozen=True)
class Anatomy:
    """Names of a model's parts.

    Attributes:
        width: of the hidden state.
        embedding_width: of the word embeddings; ELECTRA's differs from ``width``.
        word_embeddings: module name of the word embeddings; where there are two stacks, of the
            encoder's.
        layers: the encoder's layers, first to last, then the decoder's.
        head_modules: the outermost modules after the last hidden state: pooler, classifier. A
        translation
            model has none: what gives it words came with the checkpoint.
        linear_layers: names of every linear layer of the backbone, those of ``layers`` among them.
        max_length: tokens that fit, special tokens included; None where nothing limits them.
        pad_id: the config's padding token, or None.
        encoder: module name of the encoder, or of all that comes before the head.
        decoder: module name of the decoder, or None.
        position_embeddings: module name of the table of absolute positions beside the word
        embeddings, or
            None where positions are relative or rotary.
        untrainable: parameters that the architecture itself never trains: Marian's sines.
    """

    width: int
    embedding_width: int
    word_embeddings: str
    layers: tuple[Layer, ...]
    head_modules: tuple[str, ...]
    linear_layers: tuple[str, ...]
    max_length: int | None
    pad_id: int | None
    encoder: str
    decoder: str | None = None
    position_embeddings: str | None = None
    untrainable: tuple[str, ...] = ()

    @property
    def depths(self) -> tuple[int, ...]:
        """Of each layer, how many of its own stack come before it."""
        encoders = sum(layer.stack == "encoder" for layer in self.layers)
        return (*range(encoders), *range(len(self.layers) - encoders))


def read_anatomy(model: Any) -> Anatomy:
    """Describe a ``transformers`` encoder or translation model, with weights or on meta.

    Raises:
        ModelError: an architecture without what was looked for; the text shows both.
    """
    encoder, decoder = "", None
    if is_encoder_decoder(model):
        encoder, decoder = (
            _find_name(model, m) for m in (model.get_encoder(), model.get_decoder())
        )
        layers = find_layers(model, encoder) + find_layers(model, decoder, "decoder")
        _require_cross_attention(model, layers)
    else:
        layers = find_layers(model)
        encoder = _find_name(model, getattr(model, "base_model", model))
    embeddings, words = _find_word_embeddings(model)
    with watch_output_norms(model, layers) as norms:
        backbone = find_backbone_parameters(model)
    layers = tuple(replace(layer, output_norm=norms.get(layer.name)) for layer in layers)
    positions = _find_position_embeddings(
        model, embeddings, encoder if decoder is not None else None
    )
    linears = tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" in backbone
    )
    return Anatomy(
        width=model.get_submodule(layers[0].self_attention.query).in_features,
        embedding_width=words.embedding_dim,
        word_embeddings=embeddings,
        layers=layers,
        head_modules=() if decoder is not None else find_head_modules(model, backbone),
        linear_layers=linears,
        max_length=_find_max_length(model, positions, several=decoder is not None),
        pad_id=getattr(model.config, "pad_token_id", None),
        encoder=encoder,
        decoder=decoder,
        position_embeddings=positions,
        untrainable=find_untrainable_parameters(model),
    )


def find_target_modules(
    anatomy: Anatomy,
    names: Sequence[str],
    *,
    option: str = "target_modules",
    allow_unmatched: bool = False,
) -> list[str]:
    """Module names of the linear layers that ``names`` mean, in the order of the model.

    A name is a role (``query``, ``key``, ``value``, ``attention_output``, ``feed_forward_up``,
    ``feed_forward_down``, ``all_linear``) or the end of a module's name, as in PEFT
    (``attention.self.query``, ``dense``). ``allow_unmatched`` passes over names that match nothing,
    to repeat a study that had such; it may leave no target at all. ``option``: where the names
    stand, for messages.

    Raises:
        MethodError: a name matches nothing; the text shows what exists.
    """
    chosen: set[str] = set()
    unmatched = []
    for name in names:
        if name in ROLES:
            chosen.update(part for layer in anatomy.layers for part in ROLES[name](layer))
            continue
        hits = [n for n in anatomy.linear_layers if n == name or n.endswith(f".{name}")]
        chosen.update(hits)
        if not hits:
            unmatched.append(name)
    if unmatched and not allow_unmatched:
        listed = ", ".join(f'"{name}"' for name in unmatched)
        raise MethodError(
            f"{option}: {listed} {'match' if len(unmatched) > 1 else 'matches'} no linear "
            f"layer of the model.\nIts first layer has: {', '.join(_list_first_layer(anatomy))}.\n",
            remedy=f"Name one of these, or a role: {', '.join(ROLES)}.",
        )
    return [name for name in anatomy.linear_layers if name in chosen]


def accepts_embeddings(model: Any, *, tolerance: float = 1e-5) -> bool:
    """Whether the model gives the same for tokens and for what its table gives for them.

    PEFT's prompt methods hand the model embeddings. An architecture that scales or changes the
    embeddings only when it looks them up itself (Marian multiplies by sqrt(width)) would read a
    whisper. Of two stacks, the encoder is asked. Leaves the model as it was; needs real weights.
    """
    reader = model.get_encoder() if is_encoder_decoder(model) else model.base_model
    words = find_word_embeddings(model)[0]
    rows = len(words.weight)
    # Ordinary tokens from the middle of the vocabulary: neither padding nor special.
    ids = torch.linspace(rows // 2, rows - 1, 6, device=words.weight.device).long()[None]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            mask = torch.ones_like(ids)
            by_ids = reader(input_ids=ids, attention_mask=mask)[0]
            by_embeds = reader(inputs_embeds=words(ids), attention_mask=mask)[0]
    finally:
        model.train(training)
    return torch.allclose(by_ids, by_embeds, rtol=tolerance, atol=tolerance)


def _find_name(model: nn.Module, part: Any) -> str:
    """Under which name the model holds a part of itself."""
    found: list[str] = [name for name, module in model.named_modules() if module is part]
    if not found:
        raise ModelError(f"{type(model).__name__} does not hold its own {type(part).__name__}.")
    return found[0]


def _require_cross_attention(model: nn.Module, layers: Sequence[Layer]) -> None:
    """A decoder that never looks at the source is no part of a translation model."""
    blind = [
        layer.name for layer in layers if layer.stack == "decoder" and layer.cross_attention is None
    ]
    if blind:
        raise ModelError(
            f"{type(model).__name__} has a decoder without attention to the source: {blind[0]}.",
            remedy=SUPPORTED_FAMILIES,
        )


def _find_word_embeddings(model: Any) -> tuple[str, nn.Embedding]:
    words = find_word_embeddings(model)[0]
    if isinstance(words, nn.Embedding):
        return _find_name(model, words), words
    raise ModelError(
        f"{type(model).__name__} has no table of word embeddings "
        f"(its input goes through {type(words).__name__})."
    )


def _find_position_embeddings(model: Any, embeddings: str, encoder: str | None) -> str | None:
    """The module beside the word embeddings that has a row for every absolute position.

    In a model with an ``encoder`` of its own learned tables of BART have rows in front, which no
    token uses, and sines may be a buffer; otherwise the table is as long as the config says.
    """
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    words = model.get_submodule(embeddings)
    home = embeddings.rpartition(".")[0] if encoder is None else encoder
    for name, module in model.get_submodule(home).named_children():
        if module is words:
            continue
        if encoder is None:
            found = isinstance(module, nn.Embedding) and module.num_embeddings == limit
        else:
            tables = (*module.parameters(False), *module.buffers(False))
            found = any(t.ndim == 2 and len(t) >= (limit or 1) for t in tables)
        if found:
            return f"{home}.{name}" if home else name
    return None


def _find_max_length(model: Any, positions: str | None, *, several: bool) -> int | None:
    """Rows of the position table that tokens can use; the trained length of rotary positions."""
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        rotary = any("inv_freq" in name for name, _ in model.named_buffers())
        return limit if rotary and not several else None
    padding = getattr(model.get_submodule(positions), "padding_idx", None)
    if several or padding is None or limit is None:
        return limit
    return int(limit - (padding + 1))  # RoBERTa counts from padding_idx + 1; no row before is used


def _list_first_layer(anatomy: Anatomy) -> list[str]:
    prefix = f"{anatomy.layers[0].name}."
    return [n.removeprefix(prefix) for n in anatomy.linear_layers if n.startswith(prefix)]
