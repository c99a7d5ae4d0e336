"""Chooses the forward path of a run, and splits its batches into passes.

Batches are packed where the architecture and the method allow it; otherwise they are padded, in
micro-batches of texts of similar length. The split of a batch changes results by rounding only. A
CPU draws dropout from the seeds of the run: torch's is slow there. The plain path leaves the model
as ``transformers`` made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from paretune.data.batch import (
    NEVER_SPLIT,
    split_by_count,
    split_by_length,
    split_for_evaluation,
    split_packed,
)
from paretune.models.dropout import DropoutRng, has_dropout
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import (
    apply_packing,
    can_pack,
    count_offsets_by_layer,
)
from paretune.models.packing.layout import Packing
from paretune.models.pass_context import PassContext
from paretune.objectives.encoding import Encoded
from paretune.training.forward.onednn_products import is_onednn_faster, use_onednn_products
from paretune.training.forward.packed import (
    PackedCompletionForward,
    PackedForward,
    PackedSeq2SeqForward,
    find_prefixes,
    packing_of,
)
from paretune.training.forward.passes import (
    Compute,
    Forward,
    MicroBatch,
    PlainForward,
    PlainSplitter,
    StepBatch,
)
from paretune.training.prepare import PreparedModel

EVALUATION_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Tokens in one evaluation pass, padding included; no setting changes it, so none changes a
result. On a GPU a pass must be worth its launches; it was not measured there."""


def device_kind(device: str) -> str:
    """The key of the tables above."""
    return "cpu" if device == "cpu" else "cuda"


@dataclass(frozen=True)
class PassSplitter(PlainSplitter):
    """Splits batches into passes of texts of similar length, packed or padded."""

    context: PassContext
    device: str

    def split_training(self, batch: StepBatch) -> list[MicroBatch]:
        """The passes of one optimizer step, the longest examples first."""
        data, packing = batch.data, self.context.packing
        tokens = data.lengths if packing is None else count_packed_tokens(data, packing)
        if batch.pass_overhead_tokens == NEVER_SPLIT:
            parts = split_by_count(tokens, batch.indices, batch.micro_batch)
        elif packing is None:
            overhead = batch.pass_overhead_tokens // len(data.ids[0])
            parts = split_by_length(tokens, batch.indices, batch.micro_batch, overhead)
        else:
            parts = split_packed(tokens, batch.indices, batch.micro_batch)
        return [MicroBatch(data, indices, part) for part, indices in enumerate(parts)]

    def split_evaluation(self, data: Encoded) -> list[MicroBatch]:
        """The passes over all examples."""
        tokens = EVALUATION_TOKENS[device_kind(self.device)]
        parts = split_evaluation(data, tokens, self.context.packing)
        return [MicroBatch(data, indices, part) for part, indices in enumerate(parts)]


def split_evaluation(
    data: Encoded, tokens: int, packing: Packing | None, *, share: bool = True
) -> list[list[int]]:
    """All examples in passes of at most ``tokens`` tokens, the longest first.

    ``share``: what packed texts have in common counts once.
    """
    if packing is None:
        choices = len(data.ids[0]) if data.ids else 1
        return split_for_evaluation([length * choices for length in data.lengths], tokens)
    prefixes = find_prefixes(data, packing) if share else None
    if prefixes is None:
        return split_for_evaluation(count_packed_tokens(data, packing), tokens, packed=True)
    return split_for_evaluation(prefixes.count_rows(packing.virtual_tokens), tokens, packed=True)


def count_packed_tokens(data: Encoded, packing: Packing) -> list[int]:
    """Tokens of each example, of all its choices, with virtual tokens and targets."""
    virtual = packing.virtual_tokens
    return [
        sum(virtual + len(text) for text in texts) + data.target_length(i)
        for i, texts in enumerate(data.ids)
    ]


ONEDNN_ROW_MULTIPLE = 16
"""oneDNN makes a kernel for each shape, which takes longer than a product of some hundred rows:
with few numbers of rows it finds nearly all of them in its cache (dev/log.md)."""
_EAGER = {"sdpa": "eager", "paretune_sdpa": "paretune_eager"}
"""Eager attention replaces SDPA, which has no kernel with dropout on a CPU, and draws torch's."""


def make_forward(prepared: PreparedModel, compute: Compute, backend: str = "fast") -> Forward:
    """The path of a run; the model is changed for it, and ``undo`` takes that back.

    ``backend``: ``plain`` leaves the model as it comes; ``fast`` packs where model and method allow
    it.
    """
    loaded, context = prepared.loaded, prepared.context
    if backend == "plain":
        pad_id = prepared.loaded.pad_id
        return PlainForward(loaded.model, context, compute, pad_id, PlainSplitter())
    in_bf16 = compute.precision == "bf16"
    by_onednn = compute.device == "cpu" and (in_bf16 or is_onednn_faster())
    if by_onednn and not in_bf16:
        use_onednn_products(prepared.injection.changes, loaded.model)
    if enable_packing(prepared):
        packing_of(context).row_multiple = ONEDNN_ROW_MULTIPLE if by_onednn else 1
    elif loaded.model.device.type == "cpu":
        use_seeded_dropout(prepared)
    return forward_for(loaded, context, compute)


def forward_for(loaded: LoadedModel, context: PassContext, compute: Compute) -> Forward:
    """The path through a model as it is: packed, or in tight padded batches."""
    splitter = PassSplitter(context, compute.device)
    common = (loaded.model, context, compute, loaded.pad_id, splitter)
    if context.packing is None:
        return PlainForward(*common)
    if not loaded.anatomy.topology.scored_vocabulary(loaded.model):
        return PackedForward(*common)
    if loaded.anatomy.source_readers:
        return PackedSeq2SeqForward(*common)
    return PackedCompletionForward(*common)


def enable_packing(prepared: PreparedModel) -> bool:
    """Let the model read packed batches if it can; whether it can. ``undo`` takes it back."""
    injection = prepared.injection
    model = prepared.loaded.model
    context = prepared.context
    if not injection.supports_packing or not can_pack(model):
        return False
    packing = Packing(
        virtual_tokens=injection.virtual_tokens,
        placeholder_id=injection.placeholder_id,
        # Texts may keep their positions in a table: a row has that of an earlier one.
        shares_prefixes=not injection.virtual_tokens
        or prepared.loaded.anatomy.position_embeddings is None,
    )
    apply_packing(model, prepared.loaded.anatomy, packing)
    context.packing = packing
    if model.device.type == "cpu":
        context.dropout_rng = packing.dropout_rng
    injection.changes.callback(context.stop_packing)
    injection.changes.callback(packing.changes.close)
    return True


def use_seeded_dropout(prepared: PreparedModel) -> None:
    """Let dropout of padded batches be drawn from the run's seed; ``undo`` takes it back."""
    model = prepared.loaded.model
    context = prepared.context
    rng = DropoutRng()
    context.dropout_rng = rng
    changes = prepared.injection.changes
    changes.callback(context.stop_packing)
    count_offsets_by_layer(changes, model, prepared.loaded.anatomy, rng)
    attention = getattr(model.config, "_attn_implementation", None)
    if attention in _EAGER and has_dropout(model):
        changes.set_attention(model, _EAGER[attention])


@contextmanager
def packing_disabled(loaded: LoadedModel, context: PassContext) -> Iterator[None]:
    """While it is open, the model reads padded batches: a search makes its own, step by step."""
    packing = context.packing
    if packing is None:
        yield
        return
    packing.changes.close()
    context.packing = None
    try:
        yield
    finally:
        apply_packing(loaded.model, loaded.anatomy, packing)
        context.packing = packing
