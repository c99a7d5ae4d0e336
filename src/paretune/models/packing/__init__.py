"""Batches without padding: tokens as rows, and attention that knows the sequences.

A packed batch has T rows of one token each, (T, 1), so a model's linear layers, normalisations and
the hooks of methods see what they always see, without a token that means nothing. Only attention,
positions and the head need to know where a sequence begins: see :mod:`.layout`, :mod:`.attention`
and :mod:`.entering`, and of translations :mod:`.two_sides`. Dropout is drawn by :mod:`.chance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from paretune.models.dropout.rng import DropoutRng
from paretune.models.packing.layout import PackedLayout

__all__ = ["DropoutRng", "PackedLayout", "Packing"]


@dataclass
class Packing:
    """What a packed model knows of its present batch.

    ``virtual_tokens`` tokens stand before every sequence for a prompt, each the token
    ``placeholder_id``.
    ``passes_position_ids``: the model is told each row's position instead of looking it up in a
    table.
    ``skipped_layers``: how many layers are skipped, because ``cached_hidden``, (rows, 1, width), is
    what they would give; where all are, ``cached_hidden`` has the first row of each sequence alone.
    ``activation_caches`` has what is
    kept of each part of the data, by the identity of its encoded examples. ``per_run_dropout``:
    dropout
    is drawn by ``dropout_rng`` on every device, for each run from its own seed. ``leave`` makes the
    model read padded batches again.
    """

    layout: PackedLayout = field(default_factory=PackedLayout)
    dropout_rng: DropoutRng = field(default_factory=DropoutRng)
    virtual_tokens: int = 0
    placeholder_id: int = 0
    passes_position_ids: bool = False
    skipped_layers: int = 0
    cached_hidden: Tensor | None = None
    activation_caches: dict[int, Any] = field(default_factory=dict)
    per_run_dropout: bool = False
    leave: Callable[[], None] = lambda: None
