"""Where the sequences of a packed batch lie, and which of them attention computes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Role = Literal["own", "first"]
"""Which queries look: every token at its own sequence, or only the first token of each."""

GROUP_SCORES = 4000
"""What one more group costs beside its scores, in scores of one head, on a CPU (docs/log.md)."""
DEVICE_GROUP_SCORES = 1 << 22
"""The same where every product is a launch: texts are computed together unless they are huge."""


@dataclass(frozen=True)
class Side:
    """The queries, or the keys, of a group: ``rows`` of consecutive sequences.

    Attributes:
        start: first row.
        stop: one past the last row.
        sequences: how many.
        length: rows of the longest sequence.
        index: (sequences, length) the row of each place, counted from ``start``; a place behind the
            end of its sequence has the sequence's first row. None where all are equally long.
        slots: (rows,) the place of each row in the flattened (sequences * length); None likewise.
        hidden: (sequences, 1, length) True behind the end of a sequence; None likewise.
    """

    start: int
    stop: int
    sequences: int
    length: int
    index: Tensor | None = None
    slots: Tensor | None = None
    hidden: Tensor | None = None

    def spread(self, x: Tensor) -> Tensor:
        """(all rows, width) -> (sequences, length, width)."""
        own = x[self.start : self.stop]
        if self.index is None:
            return own.view(self.sequences, self.length, -1)
        return own[self.index]

    def gather(self, x: Tensor, into: Tensor) -> None:
        """(sequences, length, width) into the rows of (all rows, width)."""
        flat = x.flatten(0, 1)
        into[self.start : self.stop] = flat if self.slots is None else flat[self.slots]


@dataclass(frozen=True)
class Group:
    """Sequences of one run whose attention is computed in one product.

    ``first`` and ``last`` bound the sequences in the batch; ``number`` counts the groups of the
    run, so that what is drawn for one depends on its run alone. ``masks`` are the attention's.
    """

    first: int
    last: int
    queries: Side
    keys: Side
    run: int
    number: int
    masks: dict[Any, Tensor] = field(default_factory=dict)


@dataclass
class Layout:
    """The sequences of the present batch: those of run 0 first, in each run the longest first."""

    lengths: list[int] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    device: str = "cpu"
    starts: list[int] = field(default_factory=list)
    _groups: dict[Role, list[Group]] = field(default_factory=dict)
    _tensors: dict[str, Tensor] = field(default_factory=dict)

    def set(self, lengths: Sequence[int], runs: Sequence[int], device: str = "cpu") -> None:
        """Describe the next batch.

        Args:
            lengths: rows of every sequence; (sequences,).
            runs: how many of the sequences belong to each run; they sum to all of them.
            device: where the batch lies.
        """
        self.lengths, self.runs, self.device = list(lengths), list(runs), device
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)
        self._groups, self._tensors = {}, {}

    @property
    def rows(self) -> int:
        """All rows of the batch."""
        return self.starts[-1]

    def run_rows(self) -> list[int]:
        """How many rows belong to each run."""
        rows, at = [], 0
        for count in self.runs:
            rows.append(self.starts[at + count] - self.starts[at])
            at += count
        return rows

    @property
    def first(self) -> Tensor:
        """The first row of each sequence; (sequences,)."""
        return self._kept("first", self.starts[:-1])

    @property
    def places(self) -> Tensor:
        """Of each row, how many of its sequence come before it; (rows, 1)."""
        return self._kept("places", [[i] for n in self.lengths for i in range(n)])

    def fronts(self, front: int) -> Tensor:
        """The first ``front`` rows of each sequence, one after another; (sequences * front,)."""
        rows = [start + i for start in self.starts[:-1] for i in range(front)]
        return self._kept(f"fronts {front}", rows)

    def groups(self, role: Role) -> list[Group]:
        """The groups that attention goes through for these queries."""
        if role not in self._groups:
            self._groups[role] = list(self._grouped(role))
        return self._groups[role]

    def _grouped(self, role: Role) -> list[Group]:
        cost = GROUP_SCORES if self.device == "cpu" else DEVICE_GROUP_SCORES
        found: list[Group] = []
        at = 0
        for run, count in enumerate(self.runs):
            lengths = self.lengths[at : at + count]
            cuts = _cuts(lengths, role, cost) if lengths else []
            for number, (a, b) in enumerate(cuts):
                keys = self._side(at + a, at + b)
                queries = keys if role == "own" else Side(at + a, at + b, b - a, 1)
                found.append(Group(at + a, at + b, queries, keys, run, number))
            at += count
        return found

    def _side(self, first: int, last: int) -> Side:
        lengths = self.lengths[first:last]
        start, stop, longest = self.starts[first], self.starts[last], max(lengths)
        if min(lengths) == longest:
            return Side(start, stop, len(lengths), longest)
        held = torch.tensor(lengths)[:, None]
        begins = torch.tensor(self.starts[first:last])[:, None] - start
        places = torch.arange(longest)[None]
        hidden = places >= held
        index = (begins + places).where(~hidden, begins)
        slots = (~hidden).flatten().nonzero()[:, 0]
        index, slots, hidden = (t.to(self.device) for t in (index, slots, hidden))
        return Side(start, stop, len(lengths), longest, index, slots, hidden[:, None])

    def _kept(self, name: str, values: Sequence[object]) -> Tensor:
        if name not in self._tensors:
            self._tensors[name] = torch.tensor(values, device=self.device)
        return self._tensors[name]


def _cuts(lengths: Sequence[int], role: Role, group_scores: int) -> list[tuple[int, int]]:
    """Cut sequences, sorted by length, into groups at the least cost: scores, and a cost a group.

    Found exactly by dynamic programming over the distinct lengths. Unsorted, it is still a cut.
    """
    ends = [i for i in range(1, len(lengths)) if lengths[i] != lengths[i - 1]] + [len(lengths)]
    bounds = [0, *ends]
    lowest, came = [0.0] + [float("inf")] * len(ends), [0] * len(bounds)
    for j in range(1, len(bounds)):
        for i in range(j):
            held = lengths[bounds[i] : bounds[j]]
            longest = max(held[0], held[-1])
            scores = len(held) * longest * (longest if role == "own" else 1)
            cost = lowest[i] + scores + group_scores
            if cost < lowest[j]:
                lowest[j], came[j] = cost, i
    cuts, j = [], len(bounds) - 1
    while j:
        cuts.append((bounds[came[j]], bounds[j]))
        j = came[j]
    return cuts[::-1]
