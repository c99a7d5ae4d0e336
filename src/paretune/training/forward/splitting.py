"""Splits the batches of a step and of an evaluation into forward passes.

A run alone keeps the order of its passes. Passes of several runs are stacked: each has its
micro-batches of alone, and they are combined so that little padding is added. How a batch is split
changes results by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretune.data.batch import (
    NEVER_SPLIT,
    PASS_OVERHEAD_TOKENS,
    split_by_count,
    split_by_length,
    split_for_evaluation,
    split_packed,
    stack_passes,
)
from paretune.methods.core.run_axis import Fleet
from paretune.models.packing.layout import Packing
from paretune.objectives.encoding import Encoded
from paretune.training.forward.micro_batch import MicroBatch, StepBatch
from paretune.training.forward.sequences import find_prefixes

EVALUATION_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Tokens in one evaluation pass, padding included; no setting changes it, so none changes a
result. On a GPU a pass must be worth its launches; it was not measured there."""
MAX_STACK_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Most tokens of several runs in one training pass: a CPU gains nothing from more, and memory grows
with it; on a GPU short passes are bound by the launches."""
MAX_STACK_PADDING = {"cpu": PASS_OVERHEAD_TOKENS, "cuda": 16 * PASS_OVERHEAD_TOKENS}
"""Tokens by which a run's micro-batch may be lengthened to share a pass: what the pass costs that
it saves. On a GPU it was not measured: as much more as a stack may hold there."""


def device_kind(device: str) -> str:
    """The key of the tables above."""
    return "cpu" if device == "cpu" else "cuda"


@dataclass(frozen=True)
class PassSplitter:
    """Splits batches into passes of texts of similar length, packed or padded.

    Args:
        alone: one run, whose passes keep their order; otherwise passes are stacked.
        overhead_tokens: memory that each text takes in a pass beside its tokens, in tokens.
    """

    fleet: Fleet
    device: str
    virtual_tokens: int = 0
    alone: bool = True
    overhead_tokens: int = 0

    def split_training(self, batches: Sequence[StepBatch]) -> list[list[MicroBatch]]:
        """The passes of one optimizer step of each run."""
        cuts = [self._split_step(batch) if batch.indices else [] for batch in batches]
        data = [batch.data for batch in batches]
        return self._stack(data, cuts, MAX_STACK_TOKENS[device_kind(self.device)])

    def split_evaluation(self, data: Sequence[Encoded | None]) -> list[list[MicroBatch]]:
        """The passes over all examples of each run."""
        tokens = EVALUATION_TOKENS[device_kind(self.device)]
        cuts = [[] if d is None else self._split_evaluation(d, tokens) for d in data]
        some = next(d for d in data if d is not None)
        return self._stack([some if d is None else d for d in data], cuts, tokens)

    def _split_evaluation(self, data: Encoded, tokens: int) -> list[list[int]]:
        packing = self.fleet.packing
        prefixes = None if packing is None else find_prefixes(data, packing)
        if packing is None or prefixes is None:
            return split_evaluation(data, tokens, packing)
        rows = prefixes.count_rows(packing.virtual_tokens)
        return split_for_evaluation(rows, tokens, packed=True)

    def _split_step(self, batch: StepBatch) -> list[list[int]]:
        """Micro-batches of one effective batch, the longest examples first."""
        data, packing = batch.data, self.fleet.packing
        choices = len(data.ids[0])
        tokens = data.lengths if packing is None else count_packed_tokens(data, packing)
        if batch.pass_overhead_tokens == NEVER_SPLIT:
            return split_by_count(tokens, batch.indices, batch.micro_batch)
        if packing is None:
            overhead = batch.pass_overhead_tokens // choices
            return split_by_length(tokens, batch.indices, batch.micro_batch, overhead)
        return split_packed(tokens, batch.indices, batch.micro_batch)

    def _stack(
        self, data: Sequence[Encoded], cuts: Sequence[list[list[int]]], max_tokens: int
    ) -> list[list[MicroBatch]]:
        if self.alone:
            return [[MicroBatch(data[0], cut, part)] for part, cut in enumerate(cuts[0])]
        sizes = [self._measure(d, cut) for d, cut in zip(data, cuts, strict=True)]
        padding = MAX_STACK_PADDING[device_kind(self.device)]
        return [
            [
                MicroBatch(d, cuts[r][stack[r]], stack[r]) if r in stack else MicroBatch(d)
                for r, d in enumerate(data)
            ]
            for stack in stack_passes(sizes, max_tokens, padding, self.overhead_tokens)
        ]

    def _measure(self, data: Encoded, cut: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """Rows of each pass, and tokens of a row; a row of a packed pass is one token."""
        if self.fleet.packing is not None:
            sizes = count_packed_tokens(data, self.fleet.packing)
            return [(sum(sizes[i] for i in indices), 1) for indices in cut]
        choices = len(data.ids[0]) if data.ids else 1
        return [
            (len(indices) * choices, self.virtual_tokens + max(data.lengths[i] for i in indices))
            for indices in cut
        ]


def split_evaluation(data: Encoded, tokens: int, packing: Packing | None) -> list[list[int]]:
    """All examples in passes of at most ``tokens`` tokens, the longest first."""
    choices = len(data.ids[0]) if data.ids else 1
    if packing is None:
        return split_for_evaluation([length * choices for length in data.lengths], tokens)
    return split_for_evaluation(count_packed_tokens(data, packing), tokens, packed=True)


def count_packed_tokens(data: Encoded, packing: Packing) -> list[int]:
    """Tokens of each example, of all its choices, with virtual tokens and targets."""
    virtual = packing.virtual_tokens
    return [
        sum(virtual + len(text) for text in texts) + data.target_length(i)
        for i, texts in enumerate(data.ids)
    ]
