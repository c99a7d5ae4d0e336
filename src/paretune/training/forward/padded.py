"""Padded batches of several runs in one pass.

Each run's part of a pass is what it has alone, made longer to the longest in the pass; which parts
stand together is chosen so that little is added (:func:`paretune.data.batch.stack_passes`). Dropout
is drawn for each run at its own length (:mod:`paretune.models.dropout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paretune.data.batch import PASS_OVERHEAD_TOKENS
from paretune.methods import Trains
from paretune.methods.core.injection import add_undo_steps
from paretune.methods.core.relative_positions import split_position_tables
from paretune.methods.core.run_axis import Fleet
from paretune.models.changes import ModelChanges
from paretune.models.dropout.rng import DropoutRng
from paretune.models.packing.apply import can_pack
from paretune.models.packing.encoder import PACKED_ENCODERS
from paretune.models.packing.encoder_decoder import can_pack_encoder_decoder
from paretune.objectives.collate import pad_batch
from paretune.objectives.encoding import Encoded
from paretune.training.estimate_cost import SAVED_WIDTHS
from paretune.training.forward.packed import MicroBatch, enable_packing, use_seeded_dropout
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
computed (Nystromformer), so there runs train alone."""

MAX_STACK_PADDING = {"cpu": PASS_OVERHEAD_TOKENS, "cuda": 16 * PASS_OVERHEAD_TOKENS}
"""By how many tokens a run's part may be made longer to share a pass: what the pass costs that it
saves. On a GPU it was not measured: as much more as a stack may hold there."""


def can_share(model: Any) -> bool:
    """Whether runs can share batches of this model: packed or padded, of a translator packed."""
    return can_pack_encoder_decoder(model) or model.config.model_type in SHAREABLE


def overhead_tokens(model: Any) -> int:
    """What each text of a padded batch holds beside its tokens, in tokens.

    DeBERTa lays a copy of its projected table, a row for each distance, beside every text, once for
    each kind of position that its attention knows, and keeps them until the backward pass.
    """
    config = model.config
    if config.model_type != "deberta-v2" or not config.relative_attention:
        return 0
    longest = config.max_relative_positions
    longest = longest if longest > 0 else config.max_position_embeddings
    distances = 2 * (config.position_buckets if config.position_buckets > 0 else longest)
    kinds = sum(kind in config.pos_att_type for kind in ("c2p", "p2c"))
    return int(kinds * distances // SAVED_WIDTHS[Trains.ADAPTER])


def enable_sharing(prepared: PreparedModel) -> bool:
    """Let the runs of a fleet share batches, packed or padded; whether they can."""
    model, injection, fleet = prepared.loaded.model, prepared.injection, prepared.fleet
    if not can_share(model):
        return False
    if injection.supports_packing and can_pack(model):
        return enable_packing(prepared, per_run_dropout=True)
    if can_pack_encoder_decoder(model):
        return False
    # On every device: what torch draws in one pass would depend on who is in it.
    use_seeded_dropout(prepared, DropoutRng())
    changes = ModelChanges()
    split_position_tables(changes, model, prepared.loaded.anatomy, fleet)
    add_undo_steps(injection, changes.undo)
    return True


def padded_outputs(
    model: nn.Module, shares: Sequence[MicroBatch], fleet: Fleet, pad_id: int, device: str
) -> list[Tensor]:
    """Logits of each run's examples from one padded pass; (examples, labels or choices) each.

    Args:
        model: with all the runs in it.
        shares: of each run of the fleet; some may have no examples, not all.
        fleet: in the model.
        pad_id: the padding token.
        device: of the model.
    """
    batches = [
        pad_batch(encoded, indices, pad_id) if indices else {} for encoded, indices in shares
    ]
    lengths = [batch["input_ids"].shape[-1] if batch else 0 for batch in batches]
    sequences = [len(indices) * len(encoded.ids[0]) for encoded, indices in shares]
    # A table that is there once for each run has one row for each that is present.
    fleet.set_row_counts(sequences, [min(1, own) for own in sequences])
    rng = fleet.dropout_rng
    assert rng is not None  # noqa: S101  (runs that share padded batches have one)
    rng.begin_pass(rng.seeds, [sequences])
    rng.run_lengths = lengths
    longest, there = max(lengths), [batch for batch in batches if batch]
    given = {
        name: torch.from_numpy(
            np.concatenate(
                [_pad_to(own[name], longest, pad_id if name == "input_ids" else 0) for own in there]
            )
        ).to(device)
        for name in there[0]
    }
    found: Tensor = model(**given).logits
    return list(torch.split(found, [len(indices) for _, indices in shares]))


def _pad_to(
    values: np.ndarray[tuple[int, ...], np.dtype[np.int64]], length: int, fill: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    behind = [(0, 0)] * (values.ndim - 1) + [(0, length - values.shape[-1])]
    return np.pad(values, behind, constant_values=fill)


def rows_and_lengths(
    encoded: Encoded, cut: Sequence[Sequence[int]], front: int
) -> list[tuple[int, int]]:
    """Of each padded pass, how many texts it has, and how long they are padded, prompts included.

    Args:
        encoded: where the examples are from.
        cut: the examples of each pass.
        front: tokens of a prompt before each text.
    """
    choices = len(encoded.ids[0]) if encoded.ids else 1
    return [(len(part) * choices, front + max(encoded.lengths[i] for i in part)) for part in cut]
