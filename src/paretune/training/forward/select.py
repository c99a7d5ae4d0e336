"""Chooses the forward path of a run or of several, and splits their batches into its passes.

Batches are packed where the architecture and the method allow it; otherwise they are padded, in
micro-batches of texts of similar length. A run alone keeps the order of its passes. Passes of
several runs are stacked: each has its micro-batches of alone, combined so that little padding is
added. How a batch is split changes results by rounding only. On a CPU dropout is drawn from the
seeds of the runs: torch's is slow there. The plain path leaves the model as ``transformers`` made
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from paretune.data.batch import (
    NEVER_SPLIT,
    PASS_OVERHEAD_TOKENS,
    split_by_count,
    split_by_length,
    split_for_evaluation,
    split_packed,
    stack_passes,
)
from paretune.methods.core.run_axis import Fleet, split_position_tables
from paretune.models.dropout import DropoutRng, has_dropout
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import (
    PACKED_ENCODERS,
    apply_packing,
    can_pack,
    count_offsets_by_layer,
)
from paretune.models.packing.layout import Packing
from paretune.objectives.encoding import Encoded
from paretune.training.forward.onednn_products import is_onednn_faster, use_onednn_products
from paretune.training.forward.packed import (
    PackedCompletionForward,
    PackedForward,
    PackedSeq2SeqForward,
    find_prefixes,
)
from paretune.training.forward.passes import (
    Compute,
    Forward,
    MicroBatch,
    PaddedForward,
    PlainForward,
    PlainSplitter,
    StepBatch,
)
from paretune.training.prepare import PreparedModel

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
class PassSplitter(PlainSplitter):
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
        packing, cuts = self.fleet.packing, list[list[list[int]]]()
        for batch in batches:  # into micro-batches, the longest examples first
            data = batch.data
            tokens = data.lengths if packing is None else count_packed_tokens(data, packing)
            if not batch.indices:
                cut = []
            elif batch.pass_overhead_tokens == NEVER_SPLIT:
                cut = split_by_count(tokens, batch.indices, batch.micro_batch)
            elif packing is None:
                overhead = batch.pass_overhead_tokens // len(data.ids[0])
                cut = split_by_length(tokens, batch.indices, batch.micro_batch, overhead)
            else:
                cut = split_packed(tokens, batch.indices, batch.micro_batch)
            cuts.append(cut)
        most = MAX_STACK_TOKENS[device_kind(self.device)]
        return self._stack([batch.data for batch in batches], cuts, most)

    def split_evaluation(self, data: Sequence[Encoded | None]) -> list[list[MicroBatch]]:
        """The passes over all examples of each run."""
        tokens = EVALUATION_TOKENS[device_kind(self.device)]
        packing = self.fleet.packing
        cuts = [[] if d is None else split_evaluation(d, tokens, packing) for d in data]
        evaluated = next(d for d in data if d is not None)
        return self._stack([evaluated if d is None else d for d in data], cuts, tokens)

    def _stack(
        self, data: Sequence[Encoded], cuts: Sequence[list[list[int]]], max_tokens: int
    ) -> list[list[MicroBatch]]:
        if self.alone:
            return [[MicroBatch(data[0], cut, part)] for part, cut in enumerate(cuts[0])]
        # Of each pass its rows, and the tokens of a row; a row of a packed pass is one token.
        sizes: list[list[tuple[int, int]]] = []
        for d, cut in zip(data, cuts, strict=True):
            if self.fleet.packing is not None:
                tokens = count_packed_tokens(d, self.fleet.packing)
                sizes.append([(sum(tokens[i] for i in indices), 1) for indices in cut])
                continue
            choices = len(d.ids[0]) if d.ids else 1
            longest = [self.virtual_tokens + max(d.lengths[i] for i in part) for part in cut]
            rows = [len(part) * choices for part in cut]
            sizes.append([*zip(rows, longest, strict=True)])
        padding = MAX_STACK_PADDING[device_kind(self.device)]
        return [
            [
                MicroBatch(d, cuts[r][stack[r]], stack[r]) if r in stack else MicroBatch(d)
                for r, d in enumerate(data)
            ]
            for stack in stack_passes(sizes, max_tokens, padding, self.overhead_tokens)
        ]


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


SHAREABLE = (
    *PACKED_ENCODERS,
    "albert",
    "data2vec-text",
    "deberta-v2",
    "ernie",
    "eurobert",
    "mpnet",
    "nomic_bert",
    "roberta-prelayernorm",
)
"""Architectures in whose padded batches every tensor's rows are texts, or known to be tables: joint
runs are tested on each. Elsewhere a tensor may belong to no run, or padding may change what is
computed, so there runs train alone."""

WIDTHS_OF_A_TOKEN = 16
"""Vectors of the width that a layer keeps for a token, about."""
_EAGER = {"sdpa": "eager", "paretune_sdpa": "paretune_eager"}
"""With dropout SDPA has no kernel on a CPU, and draws with torch's own."""


def make_forward(prepared: PreparedModel, compute: Compute, backend: str = "fast") -> Forward:
    """The path of a run alone; the model is changed for it, and ``undo`` takes that back.

    ``backend``: ``plain`` leaves the model as it comes; ``fast`` packs where model and method allow
    it.
    """
    loaded, fleet = prepared.loaded, prepared.fleet
    if backend == "plain":
        pad_id = prepared.loaded.pad_id
        return PlainForward(loaded.model, fleet, compute, pad_id, PlainSplitter())
    _prepare_products(prepared, compute)
    if not enable_packing(prepared) and loaded.model.device.type == "cpu":
        use_seeded_dropout(prepared, DropoutRng())
    return forward_for(loaded, fleet, compute)


def forward_for(
    loaded: LoadedModel,
    fleet: Fleet,
    compute: Compute,
    splitter: PassSplitter | None = None,
) -> Forward:
    """The path through a model as it is: packed, or, of a run alone, in tight padded batches."""
    splitter = splitter or PassSplitter(fleet, compute.device)
    common = (loaded.model, fleet, compute, loaded.pad_id, splitter)
    if fleet.packing is None:
        return PlainForward(*common)
    if not loaded.anatomy.topology.scored_vocabulary(loaded.model):
        return PackedForward(*common)
    if loaded.anatomy.source_readers:
        return PackedSeq2SeqForward(*common)
    return PackedCompletionForward(*common)


def make_shared_forward(prepared: PreparedModel, compute: Compute) -> Forward | None:
    """The path of several runs; None where they cannot share batches of this model.

    Every device draws dropout from the seed of each run: torch's would depend on the others.
    """
    loaded, fleet = prepared.loaded, prepared.fleet
    model = loaded.model
    if not can_share(model):
        return None
    virtual_tokens, overhead = prepared.injection.virtual_tokens, overhead_tokens(model)
    splitter = PassSplitter(fleet, compute.device, virtual_tokens, False, overhead)
    _prepare_products(prepared, compute)
    if enable_packing(prepared, per_run_dropout=True):
        return forward_for(loaded, fleet, compute, splitter=splitter)
    if model.config.model_type not in SHAREABLE:
        return None
    rng = DropoutRng()
    use_seeded_dropout(prepared, rng)
    split_position_tables(prepared.injection.changes, model, loaded.anatomy, fleet)
    return PaddedForward(model, fleet, compute, prepared.loaded.pad_id, splitter, rng)


def _prepare_products(prepared: PreparedModel, compute: Compute) -> None:
    if compute == Compute("cpu", "fp32") and is_onednn_faster():
        use_onednn_products(prepared.injection.changes, prepared.loaded.model)


def enable_packing(prepared: PreparedModel, *, per_run_dropout: bool = False) -> bool:
    """Let the model read packed batches if it can; whether it can. ``undo`` takes it back.

    ``per_run_dropout``: drawn from the seeds of the runs on every device, not only on a CPU.
    """
    injection, model, fleet = prepared.injection, prepared.loaded.model, prepared.fleet
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
    fleet.packing = packing
    if per_run_dropout or model.device.type == "cpu":
        fleet.dropout_rng = packing.dropout_rng
    injection.changes.callback(fleet.stop_packing)
    injection.changes.callback(packing.changes.close)
    return True


def use_seeded_dropout(prepared: PreparedModel, rng: DropoutRng) -> None:
    """Let dropout of padded batches be drawn by ``rng``; ``undo`` takes it back."""
    model, fleet = prepared.loaded.model, prepared.fleet
    fleet.dropout_rng = rng
    changes = prepared.injection.changes
    changes.callback(fleet.stop_packing)
    count_offsets_by_layer(changes, model, prepared.loaded.anatomy, rng)
    attention = getattr(model.config, "_attn_implementation", None)
    if attention in _EAGER and has_dropout(model):
        changes.set_attention(model, _EAGER[attention])


@contextmanager
def packing_disabled(loaded: LoadedModel, fleet: Fleet) -> Iterator[None]:
    """While it is open, the model reads padded batches: a search makes its own, step by step."""
    packing = fleet.packing
    if packing is None:
        yield
        return
    packing.changes.close()
    fleet.packing = None
    try:
        yield
    finally:
        apply_packing(loaded.model, loaded.anatomy, packing)
        fleet.packing = packing


def can_share(model: Any) -> bool:
    """Whether runs can share its batches: packed or padded, of a translator only packed."""
    return can_pack(model) or model.config.model_type in SHAREABLE


def overhead_tokens(model: Any) -> int:
    """What each text of a padded batch holds beside its tokens: DeBERTa's projected tables.

    One for each kind of position that attention knows, kept until the backward pass. In tokens.
    """
    config = model.config
    if config.model_type != "deberta-v2" or not config.relative_attention:
        return 0
    longest = config.max_relative_positions
    longest = longest if longest > 0 else config.max_position_embeddings
    distances = 2 * (config.position_buckets if config.position_buckets > 0 else longest)
    kinds = sum(kind in config.pos_att_type for kind in ("c2p", "p2c"))
    return int(kinds * distances // WIDTHS_OF_A_TOKEN)
