"""One pass through a model: which examples go together, and what the model says of them.

Where the architecture and the method allow it, batches are packed (:mod:`paretune.models.packing`):
no padding is computed. Otherwise they are padded to their longest, in tight micro-batches. Which of
the two it is, is decided once for a run (:func:`pack`), and changes results by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from paretune.data.batch import (
    evaluation_batches,
    micro_batches,
    packed_batches,
    packed_evaluation_batches,
)
from paretune.data.encode import Encoded
from paretune.methods.fleet import Fleet
from paretune.methods.injection import also_undo
from paretune.models.dropout import drops
from paretune.models.packing import Chance, Packing
from paretune.models.packing.entering import counted, enter, packs
from paretune.training.objective import inputs
from paretune.training.prepare import Prepared

_PLAIN = {"sdpa": "eager", "paretune_sdpa": "paretune_eager"}
"""With dropout SDPA has no kernel on a CPU, and draws with torch's own."""


def pack(prepared: Prepared) -> bool:
    """Let the run's batches be packed if they can be; whether they can. ``undo`` takes it back.

    Where they cannot, dropout is still drawn by chance, on a CPU, where torch's own is slow.
    """
    injection, model, anatomy = prepared.injection, prepared.loaded.model, prepared.loaded.anatomy
    if not injection.packs or not packs(model):
        if model.device.type == "cpu":
            chance = prepared.fleet.chance = Chance()
            steps = [handle.remove for handle in counted(model, anatomy, chance)]
            before = getattr(model.config, "_attn_implementation", None)
            if before in _PLAIN and drops(model):
                model.set_attn_implementation(_PLAIN[before])
                steps.append(partial(model.set_attn_implementation, before))
            also_undo(injection, *steps, prepared.fleet.forget)
        return False
    packing = Packing(front=injection.extra_tokens, placeholder=injection.placeholder)
    leave = enter(model, anatomy, packing)
    prepared.fleet.packing = packing

    also_undo(injection, leave, prepared.fleet.forget)
    return True


def training_passes(
    encoded: Encoded,
    batch: Sequence[int],
    micro_batch: int,
    pass_tokens: int,
    packing: Packing | None,
) -> list[list[int]]:
    """The micro-batches of one effective batch, longest first."""
    choices = len(encoded.ids[0])
    if packing is None:
        return micro_batches(encoded.lengths, batch, micro_batch, pass_tokens // choices)
    return packed_batches(_tokens(encoded, packing), batch, micro_batch)


def evaluation_passes(encoded: Encoded, tokens: int, packing: Packing | None) -> list[list[int]]:
    """All examples in batches of at most so many tokens, longest first."""
    choices = len(encoded.ids[0]) if encoded.ids else 1
    if packing is None:
        return evaluation_batches([length * choices for length in encoded.lengths], tokens)
    return packed_evaluation_batches(_tokens(encoded, packing), tokens)


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
        fleet.share([len(indices) * choices])
        logits: Tensor = model(**inputs(encoded, list(indices), pad_id, device)).logits
        return logits
    packing = fleet.packing
    texts, given = packed_inputs(encoded, indices, fleet, device)
    if packing.kept:
        kept = packing.kept[id(encoded)]
        packing.hidden = kept.of(i * choices + c for i, c in texts).to(device)
    found: Tensor = model(**given).logits
    packing.hidden = None
    row = {text: place for place, text in enumerate(texts)}
    back = torch.tensor([row[i, c] for i in indices for c in range(choices)])
    ordered = found[back.to(found.device)]
    return ordered if choices == 1 else ordered.view(len(indices), choices)


def packed_inputs(
    encoded: Encoded, indices: Sequence[int], fleet: Fleet, device: str
) -> tuple[list[tuple[int, int]], dict[str, Tensor]]:
    """Describe a batch to a packed model.

    Returns:
        Example and choice of each text, in the order of the batch: the longest first, so that those
        of like length can be computed together. And the model's inputs, (rows, 1).
    """
    packing = fleet.packing
    assert packing is not None  # noqa: S101  (asked for packed models only)
    texts = [(i, c) for i in indices for c in range(len(encoded.ids[i]))]
    texts.sort(key=lambda text: -len(encoded.ids[text[0]][text[1]]))
    lengths = [packing.front + len(encoded.ids[i][c]) for i, c in texts]
    packing.layout.set(lengths, [len(texts)], device)
    ways = [[packing.layout.rows], [len(texts)]]
    fleet.share(*ways)
    packing.chance.begin(packing.chance.seeds, ways)
    return texts, _rows(encoded, texts, packing, device)


def _rows(
    encoded: Encoded, texts: Sequence[tuple[int, int]], packing: Packing, device: str
) -> dict[str, Tensor]:
    """Model inputs of these texts, one row for each token; (rows, 1)."""
    front = [packing.placeholder] * packing.front
    ids = [token for i, c in texts for token in (*front, *encoded.ids[i][c])]
    given = {"input_ids": _column(ids, device)}
    if encoded.type_ids is not None:
        zeros = [0] * packing.front
        types = [kind for i, c in texts for kind in (*zeros, *encoded.type_ids[i][c])]
        given["token_type_ids"] = _column(types, device)
    if packing.rotary:
        given["position_ids"] = packing.layout.places
    return given


def _column(values: list[int], device: str) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64)[:, None]).to(device)


def _tokens(encoded: Encoded, packing: Packing) -> list[int]:
    """Tokens of each example, of all its choices together, prompts included."""
    return [sum(packing.front + len(text) for text in texts) for texts in encoded.ids]
