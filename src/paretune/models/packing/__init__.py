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

from paretune.models.packing.chance import Chance
from paretune.models.packing.layout import Layout

__all__ = ["Chance", "Layout", "Packing"]


@dataclass
class Packing:
    """What a packed model knows of its present batch.

    ``front`` tokens stand before every sequence for a prompt, each the token ``placeholder``.
    ``rotary``: the model is told each row's position instead of looking it up in a table.
    ``depth``: how many layers are skipped, because ``hidden``, (rows, 1, width), is what they would
    give; where all are, ``hidden`` has the first row of each sequence alone. ``kept`` has what is
    kept of each part of the data, by the identity of its encoded examples. ``each_draws``: dropout
    is drawn by ``chance`` on every device, for each run from its own seed. ``leave`` makes the
    model read padded batches again.
    """

    layout: Layout = field(default_factory=Layout)
    chance: Chance = field(default_factory=Chance)
    front: int = 0
    placeholder: int = 0
    rotary: bool = False
    depth: int = 0
    hidden: Tensor | None = None
    kept: dict[int, Any] = field(default_factory=dict)
    each_draws: bool = False
    leave: Callable[[], None] = lambda: None
