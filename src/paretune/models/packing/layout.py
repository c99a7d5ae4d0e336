"""Where the sequences of a packed batch lie, and which of them attention computes together.

Sources and targets of a translation have rows apart: a layout of the sources, and at it one of the
targets, with the same sequences in the same order. So a group of sequences is one range of rows in
either, and cross-attention needs nothing but queries of the one and keys of the other. A decoder's
last layer computes some tokens at the end of each text only: their layout is at that of the texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from paretune.device_transfer import to_device

AttentionRole = Literal["self", "pooled", "causal", "causal_tail", "cross"]
"""Which queries attend to what: every token to its own sequence, or only the pooled (first) token
of each; of a target, or of a decoder's text, every token to itself and those before it
(``causal``), or only the last tokens of each (``causal_tail``); of a target, every token to its
source (``cross``)."""

GROUP_OVERHEAD_SCORES = 4000
"""Fixed cost of a group on a CPU, in scores of one head (dev/log.md)."""
GPU_GROUP_OVERHEAD_SCORES = 1 << 22
"""The same on a GPU, where every product is a launch: only huge texts are computed apart."""


@dataclass(frozen=True)
class TokenTree:
    """A sequence in which several texts share a beginning.

    Attributes:
        depths: (rows,) the position of each row in its text.
        nodes: (rows,) the part that each row belongs to.
        ancestors: (nodes, nodes) whether the second is the first, or before it in its texts.
    """

    depths: NDArray[np.int64]
    nodes: NDArray[np.int64]
    ancestors: NDArray[np.bool_]

    def is_masked(self, first: int, window: int | None) -> NDArray[np.bool_]:
        """Which keys are none for the queries from row ``first`` on; (queries, rows).

        Those of other texts, later ones, and those ``window`` tokens away or more.
        """
        rows = np.arange(len(self.depths))
        seen = self.ancestors[self.nodes[first:]][:, self.nodes] & (rows <= rows[first:, None])
        if window is not None:
            seen &= self.depths[first:, None] - self.depths < window
        return ~seen


@dataclass(frozen=True)
class RowBlock:
    """The rows of consecutive sequences: the queries, or the keys, of a group.

    Attributes:
        pad_index: (sequences, length) the row of each position, counted from ``start``; a position
            behind the end of its sequence has the sequence's first row. None where all sequences
            are equally long, as the two below.
        unpad_index: (rows,) the position of each row in the flattened (sequences * length).
        padding_mask: (sequences, 1, length) True behind the end of a sequence.
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

    Attributes:
        index: of the group among those of its run, so that its dropout depends on its run alone.
        causal: no query attends to what comes after it.
        offsets: (sequences,) the position of each sequence's first query among its keys; None: 0.
        trees: of each sequence, where several texts share its beginning; empty: none does.
    """

    start: int
    stop: int
    queries: RowBlock
    keys: RowBlock
    run: int
    index: int
    causal: bool = False
    offsets: Tensor | None = None
    trees: Sequence[TokenTree] = ()
    masks: dict[Any, Tensor] = field(default_factory=dict)


@dataclass
class PackedLayout:
    """The sequences of the present batch: those of run 0 first, in each run the longest first.

    Attributes:
        target: layout of the targets, where this one is that of the sources.
        tail: layout of the last tokens of each text, of which a decoder's last layer computes no
            others; None: it computes all.
        trees: of each sequence, where they hold texts that share a beginning.
    """

    lengths: list[int] = field(default_factory=list)
    run_sequences: list[int] = field(default_factory=list)
    device: str = "cpu"
    starts: list[int] = field(default_factory=list)
    target: PackedLayout | None = None
    tail: PackedLayout | None = None
    trees: Sequence[TokenTree] = ()
    _groups: dict[AttentionRole, list[AttentionGroup]] = field(default_factory=dict)
    _tensors: dict[str, Tensor] = field(default_factory=dict)

    def begin_batch(
        self,
        lengths: Sequence[int],
        runs: Sequence[int],
        device: str = "cpu",
        targets: Sequence[int] = (),
        tails: Sequence[int] = (),
        trees: Sequence[TokenTree] = (),
    ) -> None:
        """Describe the next batch.

        Args:
            runs: how many of the sequences belong to each run.
            targets: lengths of the targets, of a translation.
            tails: how many tokens at the end of each sequence the last layer of a decoder computes;
                empty: all.
            trees: of each sequence, where they hold texts that share a beginning.
        """
        self.lengths, self.run_sequences, self.device = list(lengths), list(runs), device
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)
        self._groups, self._tensors, self.trees = {}, {}, trees
        self.target = _begin(targets, runs, device)
        self.tail = _begin(tails, runs, device)

    @property
    def rows(self) -> int:
        """All rows of the batch."""
        return self.starts[-1]

    def run_rows(self) -> list[int]:
        """How many rows belong to each run."""
        rows, first = [], 0
        for count in self.run_sequences:
            rows.append(self.starts[first + count] - self.starts[first])
            first += count
        return rows

    def rows_of_token(self, token: int) -> Tensor:
        """Where this token of each sequence is, from 0, or from -1 at its end; (sequences,)."""
        starts = self.starts[1:] if token < 0 else self.starts[:-1]
        return self._cached_tensor(f"token {token}", np.array(starts, dtype=np.int64) + token)

    @property
    def tail_rows(self) -> Tensor:
        """Where the rows of :attr:`tail` are among all; (rows of the tail,)."""
        assert self.tail is not None  # noqa: S101  (asked for where there is one)
        return self._cached_tensor("tail", self._places_of_tail())

    def _places_of_tail(self) -> NDArray[np.int64]:
        assert self.tail is not None  # noqa: S101
        behind = np.array(self.starts[1:]) - np.array(self.tail.starts[1:])
        places: NDArray[np.int64] = np.arange(self.tail.rows) + np.repeat(behind, self.tail.lengths)
        return places

    @property
    def position_ids(self) -> Tensor:
        """Position of each row in its text, from 0; (rows, 1)."""
        if self.trees:
            depths = np.concatenate([tree.depths for tree in self.trees])
            return self._cached_tensor("positions", depths[:, None])
        lengths = np.array(self.lengths, dtype=np.int64)
        starts = np.repeat(np.array(self.starts[:-1], dtype=np.int64), lengths)
        return self._cached_tensor("positions", (np.arange(self.rows) - starts)[:, None])

    def virtual_rows(self, count: int) -> Tensor:
        """The first ``count`` rows of each sequence, one after another; (sequences * count,)."""
        starts = np.array(self.starts[:-1], dtype=np.int64)
        return self._cached_tensor(f"virtual {count}", (starts[:, None] + np.arange(count)).ravel())

    def groups(self, role: AttentionRole) -> list[AttentionGroup]:
        """The groups in which attention of this role is computed."""
        if role not in self._groups:
            self._groups[role] = list(self._make_groups(role))
        return self._groups[role]

    def attention_lengths(self, role: AttentionRole) -> tuple[list[int], list[int]]:
        """Numbers of queries and of keys of every sequence; (sequences,) each."""
        queries, keys = self._sides(role)
        return ([1] * len(keys.lengths) if queries is None else queries.lengths), keys.lengths

    def cumulative_lengths(
        self, role: AttentionRole, virtual: int = 0
    ) -> tuple[tuple[Tensor, int], tuple[Tensor, int]]:
        """Where each sequence begins among the queries, and among the keys; and the longest.

        Shapes: (sequences + 1,) int32, the last one is the number of rows. ``virtual``: keys that
        stand in front of every sequence.
        """
        queries, keys = self.attention_lengths(role)
        sides = (("queries", queries), (f"keys {virtual}", [virtual + n for n in keys]))
        both = []
        for name, lengths in sides:
            ends = np.cumsum([0, *lengths], dtype=np.int32)
            both.append((self._cached_tensor(f"{role} {name}", ends), max(lengths)))
        return both[0], both[1]

    def prefixed_rows(self, role: AttentionRole, virtual: int) -> Tensor:
        """From all virtual keys and then all rows to each sequence behind its own virtual keys.

        Shape: (sequences * virtual + key rows,).
        """
        _, keys = self._sides(role)
        fronts = np.arange(len(keys.lengths) * virtual).reshape(-1, virtual)
        behind = fronts.size
        rows = [
            np.arange(a, a + n) + behind for a, n in zip(keys.starts, keys.lengths, strict=False)
        ]
        order = [part for pair in zip(fronts, rows, strict=True) for part in pair]
        return self._cached_tensor(f"{role} prefixed {virtual}", np.concatenate(order))

    def _make_groups(self, role: AttentionRole) -> list[AttentionGroup]:
        overhead = GROUP_OVERHEAD_SCORES if self.device == "cpu" else GPU_GROUP_OVERHEAD_SCORES
        query_side, key_side = self._sides(role)
        query_lengths, key_lengths = self.attention_lengths(role)
        groups: list[AttentionGroup] = []
        first = 0
        for run, count in enumerate(self.run_sequences):
            own = slice(first, first + count)
            cuts = _cut_groups(query_lengths[own], key_lengths[own], overhead) if count else []
            for index, (a, b) in enumerate(cuts):
                start, stop = first + a, first + b
                keys = key_side._row_block(start, stop)
                queries = keys
                if query_side is None:
                    queries = RowBlock(start, stop, stop - start, 1)
                elif query_side is not key_side:
                    queries = query_side._row_block(start, stop)
                causal = role in ("causal", "causal_tail")
                offsets = self._query_offsets(start, stop) if role == "causal_tail" else None
                trees = self.trees[start:stop]
                groups.append(
                    AttentionGroup(start, stop, queries, keys, run, index, causal, offsets, trees)
                )
            first += count
        return groups

    def _query_offsets(self, first: int, last: int) -> Tensor:
        assert self.tail is not None  # noqa: S101  (the role has one)
        lengths = np.array(self.lengths[first:last]) - np.array(self.tail.lengths[first:last])
        return to_device(lengths, self.device)

    def _sides(self, role: AttentionRole) -> tuple[PackedLayout | None, PackedLayout]:
        """Where queries and keys are; None for queries of one row a sequence."""
        if role in ("self", "pooled"):
            return (self if role == "self" else None), self
        if role == "causal":
            own = self if self.target is None else self.target
            return own, own
        queries = self.target if role == "cross" else self.tail
        if queries is None:
            which = "targets" if role == "cross" else "tails"
            raise ValueError(f"attention {role}, but the batch has no {which}")
        return queries, self

    def _row_block(self, first: int, last: int) -> RowBlock:
        lengths = self.lengths[first:last]
        start, stop, longest = self.starts[first], self.starts[last], max(lengths)
        if min(lengths) == longest:
            return RowBlock(start, stop, len(lengths), longest)
        begins = np.array(self.starts[first:last], dtype=np.int64)[:, None] - start
        positions = np.arange(longest)[None]
        real = positions < np.array(lengths, dtype=np.int64)[:, None]
        arrays = (np.where(real, begins + positions, begins), np.flatnonzero(real), ~real)
        pad_index, unpad_index, mask = (to_device(x, self.device) for x in arrays)
        return RowBlock(start, stop, len(lengths), longest, pad_index, unpad_index, mask[:, None])

    def _cached_tensor(self, name: str, values: NDArray[np.signedinteger[Any]]) -> Tensor:
        if name not in self._tensors:
            self._tensors[name] = to_device(values, self.device)
        return self._tensors[name]


def _begin(lengths: Sequence[int], runs: Sequence[int], device: str) -> PackedLayout | None:
    if not lengths:
        return None
    layout = PackedLayout()
    layout.begin_batch(lengths, runs, device)
    return layout


def _cut_groups(
    queries: Sequence[int], keys: Sequence[int], overhead: int
) -> list[tuple[int, int]]:
    """Cut sequences, in their order, into groups at the least cost: scores, and an overhead each.

    Found exactly by dynamic programming over the places where a length changes. The scores of a
    group are those of its longest queries and its longest keys. First of each, and one past it.
    """
    lengths = np.array([queries, keys])
    changes = np.flatnonzero((lengths[:, 1:] != lengths[:, :-1]).any(0)) + 1
    bounds = np.array([0, *changes, lengths.shape[1]])
    most_queries, most_keys = np.maximum.reduceat(lengths, bounds[:-1], axis=1)
    lowest, previous = np.zeros(len(bounds)), np.zeros(len(bounds), dtype=int)
    for j in range(1, len(bounds)):
        # Of the groups from each bound before up to this one: their longest.
        longest_queries, longest_keys = (
            np.maximum.accumulate(most[j - 1 :: -1])[::-1] for most in (most_queries, most_keys)
        )
        scores = (bounds[j] - bounds[:j]) * longest_queries * longest_keys
        cost = lowest[:j] + scores + overhead
        previous[j] = cost.argmin()
        lowest[j] = cost[previous[j]]
    cuts, j = [], len(bounds) - 1
    while j:
        cuts.append((int(bounds[previous[j]]), int(bounds[j])))
        j = int(previous[j])
    return cuts[::-1]
