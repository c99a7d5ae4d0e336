"""A model made to read packed batches, and back as it was.

Everything is done by hooks and by ``transformers``' own attention interface; no module is replaced
and no weight is touched. What is computed is the model's own result for each sequence (tests: to
rounding), with nothing spent on padding, and in an encoder's last layer only what the head reads. A
model's topology says whether :mod:`.encoder` or :func:`pack_encoder_decoder` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from paretune.models.changes import ModelChanges
from paretune.models.dropout.rng import OFFSETS_PER_LAYER, DropoutRng
from paretune.models.packing.attention import IMPLEMENTATION, packed_attention_forward
from paretune.models.packing.encoder import can_pack_encoder, pack_encoder
from paretune.models.packing.layout import AttentionRole, PackedLayout
from paretune.models.packing.state import Packing
from paretune.models.structure.anatomy import Anatomy
from paretune.models.structure.layers import parent_name
from paretune.models.structure.topology import ENCODER, ENCODER_DECODER, Topology, topology_of

PACKED_ENCODER_DECODERS = ("bart", "m2m_100", "marian", "mbart")
"""Architectures with absolute positions and attention without biases; NLLB is an M2M100."""


def can_pack_encoder_decoder(model: Any) -> bool:
    """Whether the model has an encoder and a decoder, and its batches can be packed."""
    config = model.config
    if config.model_type not in PACKED_ENCODER_DECODERS or not getattr(
        model, "_supports_sdpa", False
    ):
        return False
    # M2M100 gives padding no position, which a first token would be by name.
    first = config.model_type == "m2m_100" and config.decoder_start_token_id == config.pad_token_id
    return not first and type(model.get_output_embeddings()) is nn.Linear


def pack_encoder_decoder(model: Any, anatomy: Anatomy, packing: Packing) -> None:
    """Give each row, of sources and of targets, the position that it has in its own sequence."""
    if anatomy.position_embeddings is None:
        raise ValueError(f"{type(model).__name__} has no tables of positions")
    own = anatomy.position_embeddings.removeprefix(anatomy.encoder)
    for stack in (anatomy.encoder, *anatomy.source_readers):
        table: Any = model.get_submodule(f"{stack}{own}")
        of_targets = stack != anatomy.encoder
        look_up = partial(_look_up_positions, table, table.forward, packing, of_targets)
        packing.changes.set(table, "forward", look_up)


def _look_up_positions(
    table: Any,
    look_up: Callable[[Any], Tensor],
    packing: Packing,
    of_targets: bool,
    seen: Any,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """The positions of all rows, (rows, 1, width): those of one long text, each row its own.

    ``seen`` is what the model shows the table: its ids, or only their shape. Whatever the table
    makes of it (BART's begins two rows late, M2M100's behind its padding) is made of one text of
    the longest length, without padding.
    """
    layout: PackedLayout | None = packing.layout.target if of_targets else packing.layout
    assert layout is not None  # noqa: S101  (a translation's batch has targets)
    longest = max(layout.lengths)
    shape: Any = (1, longest)
    if isinstance(seen, Tensor):
        no_padding = (getattr(table, "padding_idx", None) or 0) + 1
        shape = seen.new_full(shape, no_padding)
    return look_up(shape).view(longest, -1)[layout.position_ids]


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
    """Let a model read packed batches until ``packing.changes`` are undone."""
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
