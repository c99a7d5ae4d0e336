"""Where the sequences of a packed batch lie, and which of them attention computes together.

A translation has two sides, sources and targets, whose rows lie apart: a layout of the sources, and
at it one of the targets, the same sequences in the same order. So one group of sequences is one
range of rows on either side, and attention across needs nothing but queries of the one side and
keys of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AttentionRole = Literal["self", "pooled", "causal", "cross"]
"""Which queries look at what: every token at its own sequence, or only the first token of each; of
a target, every token at itself and those before it (``causal``), or at its source (``cross``)."""

GROUP_OVERHEAD_SCORES = 4000
"""What one more group costs beside its scores, in scores of one head, on a CPU (docs/log.md)."""
GPU_GROUP_OVERHEAD_SCORES = 1 << 22
"""The same where every product is a launch: texts are computed together unless they are huge."""


@dataclass(frozen=True)
class RowBlock:
    """The queries, or the keys, of a group: ``rows`` of consecutive sequences.

    Attributes:
        start: first row.
        stop: one past the last row.
        sequences: how many.
        length: rows of the longest sequence.
        pad_index: (sequences, length) the row of each place, counted from ``start``; a place behind
        the
            end of its sequence has the sequence's first row. None where all are equally long.
        unpad_index: (rows,) the place of each row in the flattened (sequences * length); None
        likewise.
        padding_mask: (sequences, 1, length) True behind the end of a sequence; None likewise.
    """

    start: int
    stop: int
    sequences: int
    length: int
    pad_index: Tensor | None = None
    unpad_index: Tensor | None = None
    padding_mask: Tensor | None = None

    def pad(self, x: Tensor) -> Tensor:
        """(all rows, width) -> (sequences, length, width)."""
        own = x[self.start : self.stop]
        if self.pad_index is None:
            return own.view(self.sequences, self.length, -1)
        # Rows are copied whole: by an index of two axes it takes four times as long.
        flat = self.pad_index.flatten()
        return own.index_select(0, flat).view(self.sequences, self.length, -1)

    def unpad_into(self, x: Tensor, into: Tensor) -> None:
        """(sequences, length, width) into the rows of (all rows, width)."""
        flat = x.flatten(0, 1)
        own = flat if self.unpad_index is None else flat.index_select(0, self.unpad_index)
        into[self.start : self.stop] = own


@dataclass(frozen=True)
class AttentionGroup:
    """Sequences of one run whose attention is computed in one product.

    ``start`` and ``stop`` bound the sequences in the batch; ``index`` counts the groups of the
    run, so that what is drawn for one depends on its run alone. ``causal``: no query sees what
    comes after it. ``masks`` are the attention's.
    """

    start: int
    stop: int
    queries: RowBlock
    keys: RowBlock
    run: int
    index: int
    causal: bool = False
    masks: dict[Any, Tensor] = field(default_factory=dict)


@dataclass
class PackedLayout:
    """The sequences of the present batch: those of run 0 first, in each run the longest first.

    ``target`` has the targets of a translation, and this has the sources.
    """

    lengths: list[int] = field(default_factory=list)
    run_sequences: list[int] = field(default_factory=list)
    device: str = "cpu"
    starts: list[int] = field(default_factory=list)
    target: PackedLayout | None = None
    _groups: dict[AttentionRole, list[AttentionGroup]] = field(default_factory=dict)
    _tensors: dict[str, Tensor] = field(default_factory=dict)

    def begin_batch(
        self,
        lengths: Sequence[int],
        runs: Sequence[int],
        device: str = "cpu",
        targets: Sequence[int] = (),
    ) -> None:
        """Describe the next batch.

        Args:
            lengths: rows of every sequence; (sequences,).
            runs: how many of the sequences belong to each run; they sum to all of them.
            device: where the batch lies.
            targets: rows of every sequence's target, where there are any; (sequences,).
        """
        self.lengths, self.run_sequences, self.device = list(lengths), list(runs), device
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)
        self._groups, self._tensors, self.target = {}, {}, None
        if targets:
            self.target = PackedLayout()
            self.target.begin_batch(targets, runs, device)

    @property
    def rows(self) -> int:
        """All rows of the batch."""
        return self.starts[-1]

    def run_rows(self) -> list[int]:
        """How many rows belong to each run."""
        rows, at = [], 0
        for count in self.run_sequences:
            rows.append(self.starts[at + count] - self.starts[at])
            at += count
        return rows

    @property
    def first_rows(self) -> Tensor:
        """The first row of each sequence; (sequences,)."""
        return self._cached_tensor("first", self.starts[:-1])

    @property
    def position_ids(self) -> Tensor:
        """Of each row, how many of its sequence come before it; (rows, 1)."""
        lengths = np.array(self.lengths, dtype=np.int64)
        starts = np.repeat(np.array(self.starts[:-1], dtype=np.int64), lengths)
        return self._cached_tensor("places", (np.arange(self.rows) - starts)[:, None])

    def virtual_rows(self, front: int) -> Tensor:
        """The first ``front`` rows of each sequence, one after another; (sequences * front,)."""
        starts = np.array(self.starts[:-1], dtype=np.int64)
        return self._cached_tensor(f"fronts {front}", (starts[:, None] + np.arange(front)).ravel())

    def groups(self, role: AttentionRole) -> list[AttentionGroup]:
        """The groups that attention goes through for these queries."""
        if role not in self._groups:
            self._groups[role] = list(self._make_groups(role))
        return self._groups[role]

    def attention_lengths(self, role: AttentionRole) -> tuple[list[int], list[int]]:
        """Of every sequence, how many of its tokens look, and at how many; (sequences,) each."""
        asking, seen = self._sides(role)
        return ([1] * len(seen.lengths) if asking is None else asking.lengths), seen.lengths

    def _make_groups(self, role: AttentionRole) -> list[AttentionGroup]:
        cost = GROUP_OVERHEAD_SCORES if self.device == "cpu" else GPU_GROUP_OVERHEAD_SCORES
        asking, seen = self._sides(role)
        found: list[AttentionGroup] = []
        at = 0
        for run, count in enumerate(self.run_sequences):
            keys_held = seen.lengths[at : at + count]
            held = [1] * count if asking is None else asking.lengths[at : at + count]
            cuts = _cut_groups(held, keys_held, cost) if count else []
            for number, (a, b) in enumerate(cuts):
                keys = seen._row_block(at + a, at + b)
                queries = keys
                if asking is None:
                    queries = RowBlock(at + a, at + b, b - a, 1)
                elif asking is not seen:
                    queries = asking._row_block(at + a, at + b)
                causal = role == "causal"
                found.append(AttentionGroup(at + a, at + b, queries, keys, run, number, causal))
            at += count
        return found

    def _sides(self, role: AttentionRole) -> tuple[PackedLayout | None, PackedLayout]:
        """Whose rows ask, None for one row a sequence, and whose are looked at."""
        if role in ("self", "pooled"):
            return (self if role == "self" else None), self
        if self.target is None:
            raise ValueError(f"attention {role}, but the batch has no targets")
        return self.target, self.target if role == "causal" else self

    def _row_block(self, first: int, last: int) -> RowBlock:
        lengths = self.lengths[first:last]
        start, stop, longest = self.starts[first], self.starts[last], max(lengths)
        if min(lengths) == longest:
            return RowBlock(start, stop, len(lengths), longest)
        held = np.array(lengths, dtype=np.int64)[:, None]
        begins = np.array(self.starts[first:last], dtype=np.int64)[:, None] - start
        places = np.arange(longest)[None]
        there = places < held
        made = (np.where(there, begins + places, begins), np.flatnonzero(there), ~there)
        index, slots, hidden = (torch.from_numpy(x).to(self.device) for x in made)
        return RowBlock(start, stop, len(lengths), longest, index, slots, hidden[:, None])

    def _cached_tensor(self, name: str, values: Sequence[int] | NDArray[np.int64]) -> Tensor:
        if name not in self._tensors:
            self._tensors[name] = torch.tensor(values, dtype=torch.int64, device=self.device)
        return self._tensors[name]


def _cut_groups(
    queries: Sequence[int], keys: Sequence[int], group_scores: int
) -> list[tuple[int, int]]:
    """Cut sequences, in their order, into groups at the least cost: scores, and a cost a group.

    Found exactly by dynamic programming over the places where a length changes. The scores of a
    group are those of its longest queries and its longest keys.
    """
    asked, seen = np.array(queries), np.array(keys)
    ends = np.flatnonzero((asked[1:] != asked[:-1]) | (seen[1:] != seen[:-1])) + 1
    bounds = np.array([0, *ends, len(asked)])
    asked, seen = (np.maximum.reduceat(held, bounds[:-1]) for held in (asked, seen))
    lowest, came = np.zeros(len(bounds)), np.zeros(len(bounds), dtype=int)
    for j in range(1, len(bounds)):
        # Of the groups from each bound before up to this one: their longest.
        most_asked, most_seen = (
            np.maximum.accumulate(held[j - 1 :: -1])[::-1] for held in (asked, seen)
        )
        scores = (bounds[j] - bounds[:j]) * most_asked * most_seen
        cost = lowest[:j] + scores + group_scores
        came[j] = cost.argmin()
        lowest[j] = cost[came[j]]
    cuts, j = [], len(bounds) - 1
    while j:
        cuts.append((int(bounds[came[j]]), int(bounds[j])))
        j = int(came[j])
    return cuts[::-1]
