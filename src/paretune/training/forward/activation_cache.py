"""Whether a run can go on from kept activations, and where they are kept (models.packing.trunk)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from paretune.data.sources.cache_dir import data_home
from paretune.errors import StudyError
from paretune.measuring.environment import describe_device
from paretune.methods.core.injection import add_undo_steps
from paretune.models.changes import ModelChanges
from paretune.models.dropout.rates import has_dropout
from paretune.models.packing.activation_cache import (
    CachedActivations,
    cache_key,
    load_or_compute,
    to_integers,
)
from paretune.models.packing.layer_skipping import (
    compute_layer_input,
    count_frozen_layers,
    skip_layers,
)
from paretune.objectives.encoding import Encoded
from paretune.training.evaluation.predict import evaluation_tokens
from paretune.training.forward import packed
from paretune.training.precision import autocast
from paretune.training.prepare import PreparedModel

BYTES_VARIABLE = "PARETUNE_TRUNK_BYTES"
BUDGET_BYTES = 4 * 2**30
"""What kept activations may take on disk where :data:`BYTES_VARIABLE` does not say; 0 keeps
none."""


def activation_cache_home() -> Path:
    """Where activations are kept: beside fetched data."""
    return data_home() / "trunk"


def budget_bytes() -> int:
    """What kept activations may take on disk.

    Raises:
        StudyError: the variable is no number of bytes.
    """
    told = os.environ.get(BYTES_VARIABLE, "")
    if not told:
        return BUDGET_BYTES
    if not told.isdigit():
        raise StudyError(
            f'"{told}" is no number of bytes.', where=BYTES_VARIABLE, remedy="0 keeps nothing."
        )
    return int(told)


def enable_activation_cache(
    prepared: PreparedModel,
    parts: Sequence[tuple[str, Encoded]],
    weights_hash: str,
    precision: str,
    device: str,
) -> list[str]:
    """Let a packed run go on from what is kept, where nothing below what it trains may change.

    That is where everything that is trained sits above some layer and no dropout is drawn below.
    ``undo`` of the run takes it back. Does nothing where it does not apply.

    Args:
        prepared: packed already.
        parts: name and examples of each part, encoded; of several runs each once.
        weights_hash: of the checkpoint.
        precision: in which the run computes.
        device: where.

    Returns:
        What a reader of the results should know: why nothing could be kept.
    """
    packing, model, anatomy = prepared.fleet.packing, prepared.loaded.model, prepared.loaded.anatomy
    budget = budget_bytes()
    if packing is None or packing.virtual_tokens or budget == 0 or not prepared.trained:
        return []
    if anatomy.decoder is not None:  # two stacks, neither of which is a trunk of the other
        return []
    depth = count_frozen_layers(anatomy, [*prepared.trained, *prepared.injection.adapters])
    # ELECTRA may widen its embeddings on the way to the first layer.
    if depth == 0 or has_dropout(model) or anatomy.embedding_width != anatomy.width:
        return []
    kept: dict[Encoded, CachedActivations] = {}
    dtype = _compute_hidden(prepared, parts[0][1], [0], depth, precision, device)[1].dtype
    for part, data in parts:
        texts = [text for choices in data.ids for text in choices]
        only_first = depth == len(anatomy.layers)
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + (1 if only_first else len(text)))

        def compute(rows: NDArray[Any], data: Encoded = data, starts: list[int] = starts) -> None:
            _fill_rows(rows, starts, prepared, data, depth, precision, device)

        kinds = [] if data.type_ids is None else [k for each in data.type_ids for k in each]
        where = " ".join(describe_device(device).values())
        told = (weights_hash, depth, only_first, precision, where, torch.__version__)
        name = cache_key(*told, texts=texts + kinds)
        width = anatomy.width
        found = load_or_compute(
            activation_cache_home(), name, starts, width, dtype, budget, compute
        )
        if isinstance(found, str):
            return [f"activations of the {part} part are not kept: {found}"]
        kept[data] = found
    changes = ModelChanges()
    changes.set(packing, "activation_caches", kept)
    changes.set(packing, "cached_hidden", None)
    skip_layers(changes, model, anatomy, packing, depth)
    add_undo_steps(prepared.injection, changes.undo)
    return []


def _fill_rows(
    rows: NDArray[Any],
    starts: list[int],
    prepared: PreparedModel,
    data: Encoded,
    depth: int,
    precision: str,
    device: str,
) -> None:
    """Compute what enters the lowest trained layer for every text of a part."""
    choices = len(data.ids[0])
    for batch in packed.evaluation_passes(data, evaluation_tokens(device), prepared.fleet.packing):
        texts, hidden = _compute_hidden(prepared, data, batch, depth, precision, device)
        found = to_integers(hidden)
        at = 0
        for i, c in texts:
            text = i * choices + c
            n = starts[text + 1] - starts[text]
            rows[starts[text] : starts[text + 1]] = found[at : at + n]
            at += n


def _compute_hidden(
    prepared: PreparedModel,
    data: Encoded,
    batch: list[int],
    depth: int,
    precision: str,
    device: str,
) -> tuple[list[tuple[int, int]], Tensor]:
    """The same for some examples: their texts, and (rows, 1, width), one text after another."""
    model = prepared.loaded.model
    was_training = model.training
    model.eval()
    with torch.no_grad(), autocast(device, "bf16" if precision == "bf16" else "fp32"):
        # Below what is trained no run differs from another: the first one reads all.
        none: list[packed.MicroBatch] = [(data, ())] * (prepared.fleet.runs - 1)
        texts, given = packed.packed_inputs([(data, batch), *none], prepared.fleet, device)
        hidden = compute_layer_input(model, prepared.loaded.anatomy, depth, given)
    model.train(was_training)
    return texts[0], hidden
