"""Packed batches of an encoder with a decoder: rows of sources, and rows of targets apart.

Encoder and decoder are called as ever, (source rows, 1) and (target rows, 1). What differs from an
encoder alone is where positions are looked up, since these models count them themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from paretune.models.packing.layout import PackedLayout
from paretune.models.packing.state import Packing
from paretune.models.structure.anatomy import Anatomy

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
