"""What a packed model knows of its present batch, and how one of its attentions is computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from paretune.models.changes import ModelChanges
from paretune.models.dropout.rng import DropoutRng
from paretune.models.packing.activation_cache import CachedActivations
from paretune.models.packing.layout import AttentionGroup, AttentionRole, PackedLayout
from paretune.objectives.encoding import Encoded


@dataclass(frozen=True)
class AttentionSettings:
    """Of one attention of a model.

    ``key_heads``: heads of keys and values, each of them seen by ``heads / key_heads`` heads of
    queries (grouped-query attention); None: as many as of queries. ``sliding_window``: tokens this
    far away or farther are not seen; None: all are. ``softcap``: scores s are softcap *
    tanh(s / softcap) (Gemma 2).
    """

    heads: int
    dropout: float
    scaling: float
    role: AttentionRole = "self"
    sliding_window: int | None = None
    key_heads: int | None = None
    softcap: float | None = None


@dataclass(frozen=True)
class AttentionDropout:
    """What falls away of the probabilities: ``seeds`` has one for each run."""

    seeds: list[int]
    offset: int
    p: float

    def stream(self, group: AttentionGroup) -> tuple[int, tuple[int, int]]:
        """Seed and offsets of a group."""
        return self.seeds[group.run], (self.offset, group.index)


@dataclass(frozen=True)
class AttentionPlan:
    """One attention of one batch."""

    groups: list[AttentionGroup]
    heads: int
    key_heads: int
    scaling: float
    window: int | None
    softcap: float | None
    dropout: AttentionDropout | None


@dataclass
class Packing:
    """The state that a packed model, its methods and its attention share.

    Attributes:
        dropout_rng: what dropout is drawn from: that of attention always, all other where a pass
            runs in :func:`paretune.models.dropout.rng.seeded_dropout`.
        passes_position_ids: whether the model is given each row's position, instead of looking it
            up in a table.
        pooled_token: the only one that the last layer is computed for; None: for all.
        computes_tails: whether the last layer can be computed for the last tokens of each text
            alone, as a decoder's.
        skipped_layers: how many layers are skipped, because ``cached_hidden`` has their output.
        cached_hidden: (rows, 1, width); where all layers are skipped, only the first row of each
            sequence.
        activation_caches: outputs of the skipped layers for all texts, by the encoded examples.
        shares_prefixes: whether a sequence may hold texts that share a beginning; not where a
            method gives a row what stands a number of rows before it.
        prefixes: what texts have in common, by the encoded examples.
        word_table: in a pass with a backward pass, the table of words where it is trained and tied
            to the LM head (:mod:`paretune.models.packing.tied_table`); (vocabulary, width).
        changes: what makes the model read packed batches; undone, it reads padded ones.
    """

    layout: PackedLayout = field(default_factory=PackedLayout)
    dropout_rng: DropoutRng = field(default_factory=DropoutRng)
    virtual_tokens: int = 0
    placeholder_id: int = 0
    passes_position_ids: bool = False
    pooled_token: int | None = None
    computes_tails: bool = False
    skipped_layers: int = 0
    cached_hidden: Tensor | None = None
    activation_caches: dict[Encoded, CachedActivations] = field(default_factory=dict)
    shares_prefixes: bool = True
    prefixes: dict[Encoded, Any] = field(default_factory=dict)
    word_table: Tensor | None = None
    changes: ModelChanges = field(default_factory=ModelChanges)

    @property
    def pooled_rows(self) -> Tensor:
        """The rows of :attr:`pooled_token`; (sequences,)."""
        assert self.pooled_token is not None  # noqa: S101  (asked for where it is computed alone)
        return self.layout.rows_of_token(self.pooled_token)
