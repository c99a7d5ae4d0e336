"""The layout of a packed batch: the rows of its sequences, and the sequences that attend together.

Sources and targets of a translation have separate rows. The layout of the sources holds the layout
of the targets, which has the same sequences in the same order: a group of sequences is one range of
rows in either, and cross-attention needs only queries of the one and keys of the other. A decoder's
last layer computes some tokens at the end of each text only: the layout of the texts holds theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from paretune.device_transfer import to_device
from paretune.models.changes import ModelChanges
from paretune.models.dropout import DropoutRng
from paretune.objectives.encoding import Encoded

AttentionRole = Literal["self", "pooled", "causal", "causal_tail", "cross"]
"""Queries and keys of an attention.

Every token attends to its own sequence (``self``), or only the pooled (first) token of each does
(``pooled``). In a target or a decoder's text every token attends to itself and those before it
(``causal``), or only the last tokens of each do (``causal_tail``). Every token of a target attends
to its source (``cross``).
"""

GROUP_OVERHEAD_SCORES = 4000
"""Fixed cost of a group on a CPU, in scores of one head (dev/log.md)."""
GPU_GROUP_OVERHEAD_SCORES = 1 << 22
"""The overhead on a GPU, where every product is a launch: only huge texts are computed apart."""


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
        """Mark the keys that are hidden from the queries from row ``first`` on; (queries, rows).

        They belong to other texts, come later, or are ``window`` tokens away or more.
        """
        rows = np.arange(len(self.depths))
        seen = self.ancestors[self.nodes[first:]][:, self.nodes] & (rows <= rows[first:, None])
        if window is not None:
            seen &= self.depths[first:, None] - self.depths < window
        return ~seen


@dataclass(frozen=True)
class AttentionSettings:
    """The settings of one attention of a model.

    Attributes:
        key_heads: heads of keys and values, each of them seen by ``heads / key_heads`` heads of
            queries (grouped-query attention).
        dropout: probability that a probability falls away.
        sliding_window: tokens this far away or farther are not seen; None: all are.
        softcap: scores s are softcap * tanh(s / softcap) (Gemma 2).
    """

    heads: int
    key_heads: int
    scaling: float
    dropout: float = 0.0
    role: AttentionRole = "self"
    sliding_window: int | None = None
    softcap: float | None = None


@dataclass(frozen=True)
class RowBlock:
    """The rows of consecutive sequences: the queries, or the keys, of a group.

    Attributes:
        pad_index: (sequences, length) the row of each position, counted from ``start``; a position
            behind the end of its sequence has the sequence's first row. This and the next two are
            None where all sequences are equally long.
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
        rows = x[self.start : self.stop]
        if self.pad_index is not None:
            # Rows are copied whole: by an index of two axes it takes four times as long.
            rows = rows.index_select(0, self.pad_index.flatten())
        return rows.view(self.sequences, self.length, -1)

    def unpad_into(self, x: Tensor, into: Tensor) -> None:
        """(sequences, length, width) into the rows of (all rows, width)."""
        rows = x.flatten(0, 1)
        if self.unpad_index is not None:
            rows = rows.index_select(0, self.unpad_index)
        into[self.start : self.stop] = rows


@dataclass(frozen=True)
class AttentionGroup:
    """Sequences whose attention is computed in one product.

    Attributes:
        index: the group's number in its batch; its dropout depends on it.
        causal: no query attends to later keys.
        offsets: (sequences,) the position of each sequence's first query among its keys; None: 0.
        trees: one for each sequence, where several texts share its beginning; otherwise empty.
    """

    start: int
    stop: int
    queries: RowBlock
    keys: RowBlock
    index: int
    causal: bool = False
    offsets: Tensor | None = None
    trees: Sequence[TokenTree] = ()
    masks: dict[Any, Tensor] = field(default_factory=dict)


@dataclass
class PackedLayout:
    """The sequences of the present batch, the longest first.

    Attributes:
        target: layout of the targets, where this one is that of the sources.
        filler_rows: rows behind the sequences that belong to none of them and that nothing reads.
        tail: layout of the last tokens of each text, which alone a decoder's last layer computes;
            None: it computes all.
        trees: one for each sequence, where they hold texts that share a beginning.
    """

    lengths: list[int] = field(default_factory=list)
    device: str = "cpu"
    filler_rows: int = 0
    starts: list[int] = field(default_factory=list)
    target: PackedLayout | None = None
    tail: PackedLayout | None = None
    trees: Sequence[TokenTree] = ()
    _groups: dict[AttentionRole, list[AttentionGroup]] = field(default_factory=dict)
    _tensors: dict[str, Tensor] = field(default_factory=dict)

    def begin_batch(
        self,
        lengths: Sequence[int],
        device: str = "cpu",
        targets: Sequence[int] = (),
        tails: Sequence[int] = (),
        trees: Sequence[TokenTree] = (),
        row_multiple: int = 1,
    ) -> None:
        """Describe the next batch.

        Args:
            targets: lengths of the targets, of a translation.
            tails: how many tokens at the end of each sequence the last layer of a decoder computes;
                empty: all.
            trees: of each sequence, where they hold texts that share a beginning.
            row_multiple: rows are filled up to a multiple of this, those of the targets too.
        """
        self.lengths, self.device = list(lengths), device
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)
        self.filler_rows = -self.rows % row_multiple
        self._groups, self._tensors, self.trees = {}, {}, trees
        self.target = PackedLayout() if targets else None
        self.tail = PackedLayout() if tails else None
        if self.target is not None:
            self.target.begin_batch(targets, device, row_multiple=row_multiple)
        if self.tail is not None:
            self.tail.begin_batch(tails, device)

    @property
    def rows(self) -> int:
        """The rows of all sequences."""
        return self.starts[-1]

    def rows_of_token(self, token: int) -> Tensor:
        """Where this token of each sequence is, from 0, or from -1 at its end; (sequences,)."""
        starts = self.starts[1:] if token < 0 else self.starts[:-1]
        return self._cached_tensor(f"token {token}", np.array(starts, dtype=np.int64) + token)

    @property
    def tail_rows(self) -> Tensor:
        """Where the rows of :attr:`tail` are among all; (rows of the tail,)."""
        assert self.tail is not None  # noqa: S101  (asked for where there is one)
        behind = np.array(self.starts[1:]) - np.array(self.tail.starts[1:])
        places = np.arange(self.tail.rows) + np.repeat(behind, self.tail.lengths)
        return self._cached_tensor("tail", places)

    @property
    def position_ids(self) -> Tensor:
        """Position of each row in its text, from 0, and 0 of filler; (rows with filler, 1)."""
        if self.trees:
            positions = np.concatenate([tree.depths for tree in self.trees])
        else:
            starts = np.array(self.starts[:-1], dtype=np.int64)
            positions = np.arange(self.rows) - np.repeat(starts, self.lengths)
        return self._cached_tensor("positions", np.pad(positions, (0, self.filler_rows))[:, None])

    def virtual_rows(self, count: int) -> Tensor:
        """The first ``count`` rows of each sequence, one after another; (sequences * count,)."""
        starts = np.array(self.starts[:-1], dtype=np.int64)
        return self._cached_tensor(f"virtual {count}", (starts[:, None] + np.arange(count)).ravel())

    def groups(self, role: AttentionRole) -> list[AttentionGroup]:
        """The groups in which attention of this role is computed."""
        if role in self._groups:
            return self._groups[role]
        # The layouts of queries and keys; ``query_side`` is None for one query a sequence.
        query_side: PackedLayout | None = self
        key_side = self
        if role == "pooled":
            query_side = None
        elif role == "causal":
            query_side = key_side = self if self.target is None else self.target
        elif role in ("cross", "causal_tail"):
            query_side = self.target if role == "cross" else self.tail
            if query_side is None:
                which = "targets" if role == "cross" else "tails"
                raise ValueError(f"attention {role}, but the batch has no {which}")
        overhead = GROUP_OVERHEAD_SCORES if self.device == "cpu" else GPU_GROUP_OVERHEAD_SCORES
        groups: list[AttentionGroup] = []
        key_lengths = key_side.lengths
        query_lengths = [1] * len(key_lengths) if query_side is None else query_side.lengths
        offsets = np.array(key_lengths) - np.array(query_lengths)  # of a tail's first query
        for index, (start, stop) in enumerate(_cut_groups(query_lengths, key_lengths, overhead)):
            queries = keys = key_side._row_block(start, stop)
            if query_side is None:
                queries = RowBlock(start, stop, stop - start, 1)
            elif query_side is not key_side:
                queries = query_side._row_block(start, stop)
            is_tail = role == "causal_tail"
            group = AttentionGroup(
                start,
                stop,
                queries,
                keys,
                index,
                causal=is_tail or role == "causal",
                offsets=to_device(offsets[start:stop], self.device) if is_tail else None,
                trees=self.trees[start:stop],
            )
            groups.append(group)
        return self._groups.setdefault(role, groups)

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


@dataclass
class Packing:
    """The state that a packed model, its methods and its attention share.

    Attributes:
        dropout_rng: the source of attention's dropout, and of all other dropout where a pass runs
            in :func:`paretune.models.dropout.seeded_dropout`.
        passes_position_ids: whether the model is given each row's position, instead of looking it
            up in a table.
        row_multiple: in training the rows of a batch are filled up to a multiple of this.
        pooled_token: the only token that the last layer is computed for; None: it is for all.
        computes_tails: whether the last layer can be computed for the last tokens of each text
            alone, as a decoder's.
        skipped_layers: how many layers are skipped, because ``cached_hidden`` has their output.
        cached_hidden: (rows, 1, width); where all layers are skipped, only the first row of each
            sequence.
        activation_caches: outputs of the skipped layers for all texts, by the encoded examples.
        shares_prefixes: whether a sequence may hold texts that share a beginning; not where a
            method gives a row what stands a number of rows before it.
        prefixes: the common beginnings of texts, by the encoded examples.
        word_table: in a pass with a backward pass, the table of words where it is trained and tied
            to the LM head (:mod:`paretune.models.packing.recomputed`); (vocabulary, width).
        changes: they make the model read packed batches; undone, it reads padded ones.
    """

    layout: PackedLayout = field(default_factory=PackedLayout)
    dropout_rng: DropoutRng = field(default_factory=DropoutRng)
    virtual_tokens: int = 0
    placeholder_id: int = 0
    passes_position_ids: bool = False
    row_multiple: int = 1
    pooled_token: int | None = None
    computes_tails: bool = False
    skipped_layers: int = 0
    cached_hidden: Tensor | None = None
    activation_caches: dict[Encoded, Any] = field(default_factory=dict)
    shares_prefixes: bool = True
    prefixes: dict[Encoded, Any] = field(default_factory=dict)
    word_table: Tensor | None = None
    changes: ModelChanges = field(default_factory=ModelChanges)

    @property
    def pooled_rows(self) -> Tensor:
        """The rows of :attr:`pooled_token`; (sequences,)."""
        assert self.pooled_token is not None  # noqa: S101  (asked for where it is computed alone)
        return self.layout.rows_of_token(self.pooled_token)


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
        # The longest of the groups from each bound before up to this one.
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
