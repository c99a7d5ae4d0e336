"""Chooses the forward path of a run or of several, and prepares the model for it.

Batches are packed where the architecture and the method allow it; otherwise they are padded, in
micro-batches of texts of similar length. On a CPU dropout is drawn from the seeds of the runs:
torch's is slow there. The plain path leaves the model as ``transformers`` made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paretune.methods.core.relative_positions import split_position_tables
from paretune.methods.core.run_axis import Fleet
from paretune.models.dropout import DropoutRng, has_dropout
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import (
    PACKED_ENCODERS,
    apply_packing,
    can_pack,
    count_offsets_by_layer,
)
from paretune.models.packing.layout import Packing
from paretune.objectives.encoding import pad_batch
from paretune.objectives.objective import Collate
from paretune.training.forward.micro_batch import Compute, Forward
from paretune.training.forward.packed import (
    PackedCompletionForward,
    PackedForward,
    PackedSeq2SeqForward,
)
from paretune.training.forward.plain import PaddedForward, PlainForward, PlainSplitter
from paretune.training.forward.splitting import PassSplitter
from paretune.training.prepare import PreparedModel

SHAREABLE = (
    *PACKED_ENCODERS,
    "albert",
    "data2vec-text",
    "deberta-v2",
    "ernie",
    "eurobert",
    "megatron-bert",
    "mpnet",
    "nomic_bert",
    "rembert",
    "roberta-prelayernorm",
    "roformer",
)
"""Architectures in whose padded batches every tensor's rows are texts, or known to be tables: joint
runs are tested on each. Elsewhere a tensor may belong to no run, or padding may change what is
computed, so there runs train alone."""

WIDTHS_OF_A_TOKEN = 16
"""Vectors of the width that a layer keeps for a token, about."""
_EAGER = {"sdpa": "eager", "paretune_sdpa": "paretune_eager"}
"""With dropout SDPA has no kernel on a CPU, and draws with torch's own."""


def make_forward(
    prepared: PreparedModel,
    compute: Compute,
    backend: str = "fast",
    collate: Collate = pad_batch,
) -> Forward:
    """The path of a run alone; the model is changed for it, and ``undo`` takes that back.

    ``backend``: ``plain`` leaves the model as it comes; ``fast`` packs where model and method allow
    it, and the objective collates as by default.
    """
    loaded, fleet = prepared.loaded, prepared.fleet
    if backend == "plain":
        pad_id = prepared.pad_id
        return PlainForward(loaded.model, fleet, compute, pad_id, PlainSplitter(), collate)
    packed = collate is pad_batch and enable_packing(prepared)
    if not packed and loaded.model.device.type == "cpu":
        use_seeded_dropout(prepared, DropoutRng())
    return forward_for(loaded, fleet, compute, collate)


def forward_for(
    loaded: LoadedModel, fleet: Fleet, compute: Compute, collate: Collate = pad_batch
) -> Forward:
    """The path of a run alone through a model as it is: packed, or in tight padded batches."""
    splitter = PassSplitter(fleet, compute.device)
    if fleet.packing is not None:
        return _make_packed(loaded, fleet, compute, splitter)
    pad_id = loaded.anatomy.pad_id or 0
    return PlainForward(loaded.model, fleet, compute, pad_id, splitter, collate)


def make_shared_forward(
    prepared: PreparedModel, compute: Compute, collate: Collate = pad_batch
) -> Forward | None:
    """The path of several runs; None where they cannot share batches of this model.

    Every device draws dropout from the seed of each run: torch's would depend on the others.
    """
    loaded, fleet = prepared.loaded, prepared.fleet
    model = loaded.model
    if not can_share(model) or collate is not pad_batch:
        return None
    virtual_tokens, overhead = prepared.injection.virtual_tokens, overhead_tokens(model)
    splitter = PassSplitter(fleet, compute.device, virtual_tokens, False, overhead)
    if enable_packing(prepared, per_run_dropout=True):
        return _make_packed(loaded, fleet, compute, splitter)
    if model.config.model_type not in SHAREABLE:
        return None
    rng = DropoutRng()
    use_seeded_dropout(prepared, rng)
    split_position_tables(prepared.injection.changes, model, loaded.anatomy, fleet)
    return PaddedForward(model, fleet, compute, prepared.pad_id, splitter, rng)


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
    injection.changes.push(fleet.stop_packing)
    injection.changes.push(packing.changes.undo)
    return True


def use_seeded_dropout(prepared: PreparedModel, rng: DropoutRng) -> None:
    """Let dropout of padded batches be drawn by ``rng``; ``undo`` takes it back."""
    model, fleet = prepared.loaded.model, prepared.fleet
    fleet.dropout_rng = rng
    changes = prepared.injection.changes
    changes.push(fleet.stop_packing)
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
    packing.changes.undo()
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


def _make_packed(
    loaded: LoadedModel, fleet: Fleet, compute: Compute, splitter: PassSplitter
) -> Forward:
    path = PackedForward
    if loaded.anatomy.topology.scored_vocabulary(loaded.model):
        path = PackedSeq2SeqForward if loaded.anatomy.source_readers else PackedCompletionForward
    return path(loaded.model, fleet, compute, loaded.anatomy.pad_id or 0, splitter)
