"""Answers and losses of a model on encoded examples, in evaluation mode, sorted by length."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from paretune.methods.core.run_axis import Fleet
from paretune.objectives.encoding import Encoded
from paretune.training.forward.packed import evaluation_passes, outputs
from paretune.training.forward.seq2seq import pairs_loss
from paretune.training.objective import weight
from paretune.training.precision import autocast

EVALUATION_TOKENS = {"cpu": 4096, "cuda": 32768}
"""Tokens in one evaluation batch, padding included; no setting changes it, so none changes a
result. On a GPU a batch must be worth its launches; it was not measured there."""


def evaluation_tokens(device: str) -> int:
    """Tokens in one evaluation batch on this device."""
    return EVALUATION_TOKENS["cpu" if device == "cpu" else "cuda"]


def predict_logits(
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
    with torch.inference_mode(), autocast(device, precision):
        for batch in evaluation_passes(encoded, evaluation_tokens(device), fleet.packing):
            out = outputs(model, encoded, batch, fleet, pad_id, device).float().cpu().numpy()
            for row, index in enumerate(batch):
                answers[index] = out[row]
    model.train(was_training)
    return np.stack(answers)


def mean_token_loss(
    model: nn.Module,
    encoded: Encoded,
    *,
    fleet: Fleet,
    pad_id: int,
    device: str,
    precision: Literal["fp32", "bf16"],
) -> float:
    """Mean loss of a token of the targets, in nats, without label smoothing."""
    was_training = model.training
    model.eval()
    total = 0.0
    with torch.inference_mode(), autocast(device, precision):
        for batch in evaluation_passes(encoded, evaluation_tokens(device), fleet.packing):
            loss = pairs_loss(model, (encoded, batch), fleet, pad_id=pad_id, device=device)
            total += float(loss)
    model.train(was_training)
    return total / weight(encoded, range(len(encoded.lengths)))
