"""Translations in a pass: their sources and targets, and the loss of the targets' tokens.

Padded or packed (:mod:`paretune.training.forward.packed`), the decoder is told the right tokens
before each token of a target, and scores all words for it. Packed, that is done for no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paretune.methods.core.run_axis import Fleet
from paretune.models.packing.encoder_decoder import lm_head
from paretune.objectives.collate import IGNORE_INDEX, pad_batch
from paretune.objectives.losses.chunked_cross_entropy import chunked_cross_entropy
from paretune.training.forward.packed import MicroBatch, packed_inputs, row_counts
from paretune.training.objective import shift_right, translation_loss


def pairs_loss(
    model: nn.Module,
    share: MicroBatch,
    fleet: Fleet,
    *,
    pad_id: int,
    device: str,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The summed loss of some translations of a fleet of one, in nats (training.objective)."""
    if fleet.packing is not None:
        ((hidden, tokens),) = packed_states(model, [share], fleet, device)
        return chunked_cross_entropy(hidden, *lm_head(model), tokens, label_smoothing)
    encoded, indices = share
    fleet.set_row_counts([len(indices)])
    return translation_loss(
        model,
        encoded,
        list(indices),
        pad_id=pad_id,
        device=device,
        label_smoothing=label_smoothing,
    )


def packed_states(
    model: nn.Module, shares: Sequence[MicroBatch], fleet: Fleet, device: str
) -> list[tuple[Tensor, Tensor]]:
    """What the model makes of each run's pairs: a last hidden state for each token, and the token.

    Shapes: (tokens, width) and (tokens,) for each run, one target after another, in an order that
    is the batch's own (``packed_inputs``). ``models.packing.two_sides.spoken`` makes words of it.

    Args:
        model: packed.
        shares: of each run of the fleet; some may have no examples, not all.
        fleet: in the model.
        device: of the model.
    """
    given: Any = model
    texts, source = packed_inputs(shares, fleet, device)
    packing = fleet.packing
    assert packing is not None  # noqa: S101  (packed_inputs has seen to it)
    if is_ambiguous(row_counts(packing)):
        return _one_by_one(model, shares, fleet, device)
    before, wanted = [], []
    for (encoded, _), own in zip(shares, texts, strict=True):
        if not own:
            wanted.append(torch.empty(0, dtype=torch.long, device=device))
            continue
        # Padded for a moment: where a target begins is the model's own affair.
        padded = pad_batch(encoded, [i for i, _ in own], 0)["labels"]
        labels = torch.from_numpy(padded).to(device)
        # Found on the CPU: a mask of a GPU's would have to come back to be counted.
        there = torch.from_numpy(np.flatnonzero(padded != IGNORE_INDEX)).to(device)
        before.append(shift_right(model, labels).flatten().index_select(0, there))
        wanted.append(labels.flatten().index_select(0, there))
    hidden: Tensor = given.base_model(
        **source, decoder_input_ids=torch.cat(before)[:, None], use_cache=False
    ).last_hidden_state[:, 0]
    pieces = torch.split(hidden, [len(tokens) for tokens in wanted])
    return list(zip(pieces, wanted, strict=True))


def is_ambiguous(ways: Sequence[Sequence[int]]) -> bool:
    """Whether two ways to share rows among runs have as many rows, but other shares."""
    return any(
        sum(one) == sum(other) and list(one) != list(other)
        for place, one in enumerate(ways)
        for other in ways[:place]
    )


def _one_by_one(
    model: nn.Module, shares: Sequence[MicroBatch], fleet: Fleet, device: str
) -> list[tuple[Tensor, Tensor]]:
    """Each run in a pass of its own: rows say whose they are by their number alone."""
    found: list[tuple[Tensor, Tensor]] = []
    for run, (data, indices) in enumerate(shares):
        alone: list[MicroBatch] = [
            (data if r == run else other, indices if r == run else ())
            for r, (other, _) in enumerate(shares)
        ]
        if len(indices):
            found.append(packed_states(model, alone, fleet, device)[run])
        else:
            none = torch.empty(0, dtype=torch.long, device=device)
            found.append((torch.empty(0, 1, device=device), none))  # as wide as nothing
    return found
