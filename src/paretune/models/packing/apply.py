"""A model made to read packed batches, and back as it was.

Everything is done by hooks and by ``transformers``' own attention interface; no module is replaced
and no weight is touched. What is computed is the model's own result for each sequence (tests: to
rounding), with nothing spent on padding, and in an encoder's last layer only what the head reads. A
model's topology says which of :mod:`.encoder` and :mod:`.encoder_decoder` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from paretune.models.changes import ModelChanges
from paretune.models.dropout.rng import OFFSETS_PER_LAYER, DropoutRng
from paretune.models.packing.attention import IMPLEMENTATION, packed_attention_forward
from paretune.models.packing.encoder import can_pack_encoder, pack_encoder
from paretune.models.packing.encoder_decoder import can_pack_encoder_decoder, pack_encoder_decoder
from paretune.models.packing.layout import AttentionRole
from paretune.models.packing.state import Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.names import parent_name
from paretune.models.structure.topology import ENCODER, ENCODER_DECODER, Topology, topology_of

ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, packed_attention_forward)


@dataclass(frozen=True)
class Packer:
    """What packing does in its own way in models of one topology."""

    can_pack: Callable[[Any], bool]
    pack: Callable[[Any, Anatomy, Packing], None]


_PACKERS: dict[Topology, Packer] = {
    ENCODER: Packer(can_pack_encoder, pack_encoder),
    ENCODER_DECODER: Packer(can_pack_encoder_decoder, pack_encoder_decoder),
}


def can_pack(model: Any) -> bool:
    """Whether the model's batches can be packed."""
    return _PACKERS[topology_of(model.config)].can_pack(model)


def apply_packing(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Let a model read packed batches until ``packing.changes`` are undone.

    Args:
        model: one that :func:`can_pack`, with the method in it.
        anatomy: of the model.
        packing: its layout describes every batch.
    """
    changes = packing.changes
    packing.passes_position_ids = anatomy.position_embeddings is None
    changes.set_attention(model, IMPLEMENTATION)
    for module, role in _list_attentions(model, anatomy):
        changes.set(module, "packing", packing)
        changes.set(module, "packed_role", role)
    count_offsets_by_layer(changes, model, anatomy, packing.dropout_rng)
    _PACKERS[anatomy.topology].pack(model, anatomy, packing)


def count_offsets_by_layer(
    changes: ModelChanges, model: nn.Module, anatomy: Anatomy, rng: DropoutRng
) -> None:
    """Count dropouts anew in each layer, so that a layer that is computed again draws the same.

    Counted from the query projection on, before which a layer has no dropout: what computes a layer
    again does so inside the hooks of the layer itself.
    """

    def begin_layer(first: int, module: nn.Module, args: Any) -> None:
        if args[0].ndim > 2:  # DeBERTa's table of positions goes through it too, later
            rng.offset = first

    for i, layer in enumerate(anatomy.layers):
        query = model.get_submodule(layer.self_attention.query)
        hook = partial(begin_layer, OFFSETS_PER_LAYER * (i + 1))
        changes.hook(query.register_forward_pre_hook(hook))


def _list_attentions(model: nn.Module, anatomy: Anatomy) -> Iterable[tuple[Any, AttentionRole]]:
    """The modules that compute attention, and which queries see what in them."""
    for layer in anatomy.layers:
        role: AttentionRole = "self" if layer.stack == "encoder" else "causal"
        yield model.get_submodule(parent_name(layer.self_attention.query)), role
        if layer.cross_attention is not None:
            yield model.get_submodule(parent_name(layer.cross_attention.query)), "cross"
