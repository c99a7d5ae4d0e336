"""Whether a run can go on from kept activations, and where they are kept (models.packing.trunk)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from paretune.data.encode import Encoded
from paretune.data.home import data_home
from paretune.errors import StudyError
from paretune.methods.injection import also_undo
from paretune.models.dropout import drops
from paretune.models.packing.trunk import (
    Kept,
    as_integers,
    cut_off,
    entering,
    fetched,
    lowest_trained,
    name_of,
)
from paretune.training import passes
from paretune.training.environment import conditions_of
from paretune.training.evaluate import evaluation_tokens
from paretune.training.precision import computing
from paretune.training.prepare import Prepared

VARIABLE = "PARETUNE_TRUNK_BYTES"
BUDGET_BYTES = 4 * 2**30
"""What kept activations may take on disk where :data:`VARIABLE` does not say; 0 keeps none."""


def trunk_home() -> Path:
    """Where activations are kept: beside fetched data."""
    return data_home() / "trunk"


def budget_bytes() -> int:
    """What kept activations may take on disk.

    Raises:
        StudyError: the variable is no number of bytes.
    """
    told = os.environ.get(VARIABLE, "")
    if not told:
        return BUDGET_BYTES
    if not told.isdigit():
        raise StudyError(
            f'"{told}" is no number of bytes.', where=VARIABLE, remedy="0 keeps nothing."
        )
    return int(told)


def keep_trunk(
    prepared: Prepared,
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
    if packing is None or packing.front or budget == 0 or not prepared.trained:
        return []
    if anatomy.decoder is not None:  # two stacks, neither of which is a trunk of the other
        return []
    depth = lowest_trained(anatomy, [*prepared.trained, *prepared.injection.parts])
    # ELECTRA may widen its embeddings on the way to the first layer.
    if depth == 0 or drops(model) or anatomy.embedding_width != anatomy.width:
        return []
    kept: dict[int, Kept] = {}
    dtype = _computed(prepared, parts[0][1], [0], depth, precision, device)[1].dtype
    for part, data in parts:
        texts = [text for choices in data.ids for text in choices]
        only_first = depth == len(anatomy.layers)
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + (1 if only_first else len(text)))

        def compute(rows: NDArray[Any], data: Encoded = data, starts: list[int] = starts) -> None:
            _fill(rows, starts, prepared, data, depth, precision, device)

        kinds = [] if data.type_ids is None else [k for each in data.type_ids for k in each]
        where = " ".join(conditions_of(device).values())
        told = (weights_hash, depth, only_first, precision, where, torch.__version__)
        name = name_of(*told, texts=texts + kinds)
        width = anatomy.width
        found = fetched(trunk_home(), name, starts, width, dtype, budget, compute)
        if isinstance(found, str):
            return [f"activations of the {part} part are not kept: {found}"]
        kept[id(data)] = found
    packing.kept = kept
    undo = cut_off(model, anatomy, packing, depth)

    def forget() -> None:
        undo()
        packing.kept, packing.hidden = {}, None

    also_undo(prepared.injection, forget)
    return []


def _fill(
    rows: NDArray[Any],
    starts: list[int],
    prepared: Prepared,
    data: Encoded,
    depth: int,
    precision: str,
    device: str,
) -> None:
    """Compute what enters the lowest trained layer for every text of a part."""
    choices = len(data.ids[0])
    for batch in passes.evaluation_passes(data, evaluation_tokens(device), prepared.fleet.packing):
        texts, hidden = _computed(prepared, data, batch, depth, precision, device)
        found = as_integers(hidden)
        at = 0
        for i, c in texts:
            text = i * choices + c
            n = starts[text + 1] - starts[text]
            rows[starts[text] : starts[text + 1]] = found[at : at + n]
            at += n


def _computed(
    prepared: Prepared, data: Encoded, batch: list[int], depth: int, precision: str, device: str
) -> tuple[list[tuple[int, int]], Tensor]:
    """The same for some examples: their texts, and (rows, 1, width), one text after another."""
    model = prepared.loaded.model
    was_training = model.training
    model.eval()
    with torch.no_grad(), computing(device, "bf16" if precision == "bf16" else "fp32"):
        # Below what is trained no run differs from another: the first one reads all.
        none: list[passes.Share] = [(data, ())] * (prepared.fleet.runs - 1)
        texts, given = passes.packed_inputs([(data, batch), *none], prepared.fleet, device)
        hidden = entering(model, prepared.loaded.anatomy, depth, given)
    model.train(was_training)
    return texts[0], hidden
