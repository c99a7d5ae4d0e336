"""Answers of a model on encoded examples, in evaluation mode, sorted by length."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paretune.data.batch import evaluation_batches, pad
from paretune.data.encode import Encoded
from paretune.methods.fleet import Fleet
from paretune.training.precision import computing

EVALUATION_TOKENS = 4096
"""Padded tokens in one evaluation batch; a constant, so that no setting changes a result."""


def inputs(encoded: Encoded, indices: list[int], pad_id: int, device: str) -> dict[str, Tensor]:
    """Model inputs of some examples: (batch, tokens), or (batch, choices, tokens)."""
    return {
        name: torch.from_numpy(array).to(device)
        for name, array in pad(encoded, indices, pad_id).items()
    }


def logits(
    model: nn.Module,
    encoded: Encoded,
    *,
    fleet: Fleet,
    pad_id: int,
    device: str,
    precision: Literal["fp32", "bf16"],
) -> NDArray[np.float32]:
    """Logits of a fleet of one, (examples, labels), in the order of the examples."""
    was_training = model.training
    model.eval()
    answers: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(encoded.lengths)
    choices = len(encoded.ids[0]) if encoded.ids else 1
    lengths = [length * choices for length in encoded.lengths]
    with torch.inference_mode(), computing(device, precision):
        for batch in evaluation_batches(lengths, EVALUATION_TOKENS):
            fleet.share([len(batch) * choices])
            out = model(**inputs(encoded, batch, pad_id, device)).logits.float().cpu().numpy()
            for row, index in enumerate(batch):
                answers[index] = out[row]
    model.train(was_training)
    return np.stack(answers)
