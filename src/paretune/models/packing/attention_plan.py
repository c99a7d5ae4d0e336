"""What attention over a packed batch is computed by: settings of a layer, groups of the batch."""

from __future__ import annotations

from dataclasses import dataclass

from paretune.models.packing.layout import AttentionGroup, AttentionRole


@dataclass(frozen=True)
class AttentionSettings:
    """Of one attention of a model.

    ``sliding_window``: tokens this far away or farther are not seen; None: all are.
    """

    heads: int
    dropout: float
    scaling: float
    role: AttentionRole = "self"
    sliding_window: int | None = None


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
    """One attention of one batch.

    ``query_lengths`` and ``key_lengths``: of every sequence, how many of its tokens see, and how
    many are seen.
    """

    groups: list[AttentionGroup]
    heads: int
    scaling: float
    window: int | None
    dropout: AttentionDropout | None
    query_lengths: list[int]
    key_lengths: list[int]
