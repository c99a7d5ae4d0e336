"""One pass through a model: which examples go together, and what the model says of them.

Where the architecture and the method allow it, batches are packed (:mod:`paretune.models.packing`):
no padding is computed. Otherwise they are padded to their longest, in tight micro-batches. Which of
the two it is, is decided once for a run (:func:`enable_packing`), and changes results by rounding
only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from paretune.data.batch import (
    NEVER_SPLIT,
    split_by_count,
    split_by_length,
    split_for_evaluation,
    split_packed,
    split_packed_for_evaluation,
)
from paretune.methods.core.injection import add_undo_steps
from paretune.methods.core.run_axis import Fleet
from paretune.models.changes import ModelChanges
from paretune.models.dropout.rates import has_dropout
from paretune.models.dropout.rng import DropoutRng
from paretune.models.load import LoadedModel
from paretune.models.packing.apply import apply_packing, can_pack, count_offsets_by_layer
from paretune.models.packing.state import Packing
from paretune.objectives.encoding import Encoded
from paretune.training.objective import collate_tensors
from paretune.training.prepare import PreparedModel

MicroBatch = tuple[Encoded, Sequence[int]]
"""Examples of one run in a pass: where they are from, and which."""

_EAGER = {"sdpa": "eager", "paretune_sdpa": "paretune_eager"}
"""With dropout SDPA has no kernel on a CPU, and draws with torch's own."""


def enable_packing(prepared: PreparedModel, *, per_run_dropout: bool = False) -> bool:
    """Let the run's batches be packed if they can be; whether they can. ``undo`` takes it back.

    Where they cannot, dropout is still drawn from the run's seed on a CPU, where torch's is slow.

    Args:
        prepared: the model with the method in it.
        per_run_dropout: draw every dropout from the seeds of the runs, on every device: what torch
            draws in one pass depends on who is in it. Alone on a GPU, torch's is one fast kernel.
    """
    injection, model, fleet = prepared.injection, prepared.loaded.model, prepared.fleet
    on_cpu = model.device.type == "cpu"
    if not injection.supports_packing or not can_pack(model):
        if on_cpu:
            use_seeded_dropout(prepared, DropoutRng())
        return False
    packing = Packing(
        virtual_tokens=injection.virtual_tokens, placeholder_id=injection.placeholder_id
    )
    apply_packing(model, prepared.loaded.anatomy, packing)
    fleet.packing = packing
    if per_run_dropout or on_cpu:
        fleet.dropout_rng = packing.dropout_rng
    add_undo_steps(injection, packing.changes.undo, fleet.stop_packing)
    return True


def use_seeded_dropout(prepared: PreparedModel, rng: DropoutRng) -> None:
    """Let dropout of padded batches be drawn by ``rng``; ``undo`` takes it back."""
    model, fleet = prepared.loaded.model, prepared.fleet
    fleet.dropout_rng = rng
    changes = ModelChanges()
    count_offsets_by_layer(changes, model, prepared.loaded.anatomy, rng)
    attention = getattr(model.config, "_attn_implementation", None)
    if attention in _EAGER and has_dropout(model):
        changes.set_attention(model, _EAGER[attention])
    add_undo_steps(prepared.injection, changes.undo, fleet.stop_packing)


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


def training_passes(
    encoded: Encoded,
    batch: Sequence[int],
    micro_batch: int,
    pass_tokens: int,
    packing: Packing | None,
) -> list[list[int]]:
    """The micro-batches of one effective batch, longest first; with ``NEVER_SPLIT`` as few as
    may be.
    """
    choices = len(encoded.ids[0])
    tokens = encoded.lengths if packing is None else tokens_of(encoded, packing)
    if pass_tokens == NEVER_SPLIT:
        return split_by_count(tokens, batch, micro_batch)
    if packing is None:
        return split_by_length(tokens, batch, micro_batch, pass_tokens // choices)
    return split_packed(tokens, batch, micro_batch)


def evaluation_passes(encoded: Encoded, tokens: int, packing: Packing | None) -> list[list[int]]:
    """All examples in batches of at most so many tokens, longest first."""
    choices = len(encoded.ids[0]) if encoded.ids else 1
    if packing is None:
        return split_for_evaluation([length * choices for length in encoded.lengths], tokens)
    return split_packed_for_evaluation(tokens_of(encoded, packing), tokens)


def outputs(
    model: nn.Module,
    encoded: Encoded,
    indices: Sequence[int],
    fleet: Fleet,
    pad_id: int,
    device: str,
) -> Tensor:
    """Logits of some examples of a fleet of one: (examples, labels), or (examples, choices)."""
    choices = len(encoded.ids[indices[0]])
    if fleet.packing is None:
        fleet.set_row_counts([len(indices) * choices])
        logits: Tensor = model(**collate_tensors(encoded, list(indices), pad_id, device)).logits
        return logits
    return packed_outputs(model, [(encoded, indices)], fleet, device)[0]


def packed_outputs(
    model: nn.Module, shares: Sequence[MicroBatch], fleet: Fleet, device: str
) -> list[Tensor]:
    """Logits of each run's examples from one packed pass; (examples, labels or choices) each.

    Args:
        model: packed.
        shares: of each run of the fleet; some may have no examples, not all.
        fleet: in the model.
        device: of the model.
    """
    packing = fleet.packing
    assert packing is not None  # noqa: S101  (asked for packed models only)
    texts, given = packed_inputs(shares, fleet, device)
    if packing.activation_caches:
        packing.cached_hidden = _cached_activations(packing, shares, texts).to(device)
    found: Tensor = model(**given).logits
    packing.cached_hidden = None
    logits = []
    pieces = torch.split(found, [len(own) for own in texts])
    for (encoded, indices), own, piece in zip(shares, texts, pieces, strict=True):
        choices = _choices(encoded)
        row = {text: place for place, text in enumerate(own)}
        back = torch.tensor([row[i, c] for i in indices for c in range(choices)], dtype=torch.long)
        ordered = piece[back.to(found.device)]
        logits.append(ordered if choices == 1 else ordered.view(len(indices), choices))
    return logits


def packed_inputs(
    shares: Sequence[MicroBatch], fleet: Fleet, device: str
) -> tuple[list[list[tuple[int, int]]], dict[str, Tensor]]:
    """Describe a batch to a packed model: the texts of run 0 first, of each run the longest first.

    So those of like length can be computed together; of a translation, source and target together
    are counted.

    Returns:
        Example and choice of each text of each run, in the order of the batch. And the model's
        inputs, (rows, 1); of a translation those of the encoder.
    """
    packing = fleet.packing
    assert packing is not None  # noqa: S101  (asked for packed models only)
    texts: list[list[tuple[int, int]]] = []
    lengths: list[int] = []
    targets: list[int] = []
    for encoded, indices in shares:
        own = [(i, c) for i in indices for c in range(len(encoded.ids[i]))]
        own.sort(key=partial(_length_key, encoded))
        if encoded.targets is not None:
            targets += [len(encoded.targets[i]) for i, _ in own]
        lengths += [packing.virtual_tokens + len(encoded.ids[i][c]) for i, c in own]
        texts.append(own)
    packing.layout.begin_batch(lengths, [len(own) for own in texts], device, targets)
    ways = row_counts(packing)
    fleet.set_row_counts(*ways)
    packing.dropout_rng.begin_pass(packing.dropout_rng.seeds, ways)
    return texts, _rows(shares, texts, packing, device)


def _length_key(encoded: Encoded, text: tuple[int, int]) -> tuple[int, int]:
    example, choice = text
    length = len(encoded.ids[example][choice])
    after = 0 if encoded.targets is None else len(encoded.targets[example])
    return -(length + after), -length


def row_counts(packing: Packing) -> list[list[int]]:
    """How rows may be shared among the runs: as tokens, as sequences, as tokens of targets."""
    layout = packing.layout
    ways = [layout.run_rows(), layout.run_sequences]
    return ways if layout.target is None else [*ways, layout.target.run_rows()]


def _cached_activations(
    packing: Packing, shares: Sequence[MicroBatch], texts: Sequence[Sequence[tuple[int, int]]]
) -> Tensor:
    """What enters the lowest layer that is computed, of all texts of a batch; (rows, 1, width)."""
    found = []
    for (encoded, _), own in zip(shares, texts, strict=True):
        if own:
            choices = _choices(encoded)
            found.append(
                packing.activation_caches[encoded].rows_of(i * choices + c for i, c in own)
            )
    return torch.cat(found)


def _rows(
    shares: Sequence[MicroBatch],
    texts: Sequence[Sequence[tuple[int, int]]],
    packing: Packing,
    device: str,
) -> dict[str, Tensor]:
    """Model inputs of these texts, one row for each token; (rows, 1)."""
    front, zeros = [packing.placeholder_id] * packing.virtual_tokens, [0] * packing.virtual_tokens
    ids: list[int] = []
    types: list[int] = []
    for (encoded, _), own in zip(shares, texts, strict=True):
        for i, c in own:
            ids += [*front, *encoded.ids[i][c]]
            if encoded.type_ids is not None:
                types += [*zeros, *encoded.type_ids[i][c]]
    given = {"input_ids": _column(ids, device)}
    if types:
        given["token_type_ids"] = _column(types, device)
    if packing.passes_position_ids:
        given["position_ids"] = packing.layout.position_ids
    return given


def _column(values: list[int], device: str) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64)[:, None]).to(device)


def _choices(encoded: Encoded) -> int:
    return len(encoded.ids[0])


def tokens_of(encoded: Encoded, packing: Packing) -> list[int]:
    """Tokens of each example, of all its choices together, prompts and targets included."""
    if encoded.targets is not None:
        return [packing.virtual_tokens + length for length in encoded.lengths]
    return [sum(packing.virtual_tokens + len(text) for text in texts) for texts in encoded.ids]
