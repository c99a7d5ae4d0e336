"""Losses, predictions and evaluation of models that give logits for each example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paretune.objectives.encoding import Encoded
from paretune.objectives.values import LossOptions, ModelPredictions, TargetScale

if TYPE_CHECKING:
    from torch import Tensor

    from paretune.data.example import Example
    from paretune.study import Answer, Label

Scores = NDArray[np.float32] | NDArray[np.float64]


def count_examples(data: Encoded, indices: Sequence[int]) -> int:
    """Number of the examples."""
    return len(indices)


def label_of(example: Example) -> Answer | None:
    """The label of an example; None where it has none."""
    return example.label


def no_target_scale(train: Sequence[Example]) -> TargetScale | None:
    """Labels have no scale."""
    return None


def cross_entropy(
    logits: Tensor, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Cross-entropy summed over the examples, in nats; ``logits`` (examples, labels | choices)."""
    import torch
    import torch.nn.functional as F

    from paretune.device_transfer import to_device

    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = to_device([data.labels[i] for i in indices], wide.device)
    return F.cross_entropy(wide, labels, reduction="sum", label_smoothing=options.label_smoothing)


def squared_error(
    logits: Tensor, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Half the squared error in units of the target scale, summed; ``logits`` (examples, 1)."""
    import torch
    import torch.nn.functional as F

    from paretune.device_transfer import to_device

    scale = _require(options.target_scale)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # In float64: far from zero float32 would round away what tells the numbers apart.
    exact = torch.tensor([data.labels[i] for i in indices], dtype=torch.float64)
    targets = to_device(((exact - scale.mean) / scale.deviation).to(wide.dtype), wide.device)
    return F.mse_loss(wide.squeeze(-1), targets, reduction="sum") / 2


def predict_labels(
    scores: Scores, examples: Sequence[Example], target_scale: TargetScale | None
) -> ModelPredictions:
    """The label with the highest score; ``scores`` (examples, labels | choices)."""
    labels = np.array(_labels(examples), dtype=int)
    wide = scores.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    log_norm = np.log(np.exp(wide - top).sum(axis=1)) + top[:, 0]
    loss = float(np.mean(log_norm - wide[np.arange(len(labels)), labels]))
    return ModelPredictions([int(i) for i in scores.argmax(1)], _rows(scores), loss)


def predict_numbers(
    scores: Scores, examples: Sequence[Example], target_scale: TargetScale | None
) -> ModelPredictions:
    """The number in the label's own unit; ``scores`` (examples, 1) in standard deviations."""
    scale = _require(target_scale)
    standardised = scores.astype(np.float64)[:, 0]
    errors = standardised - (np.array(_labels(examples)) - scale.mean) / scale.deviation
    numbers: list[Answer] = [float(s) * scale.deviation + scale.mean for s in standardised]
    return ModelPredictions(numbers, _rows(scores), float(np.mean(errors**2) / 2))


class LogitsCollector:
    """Gathers logits; the result is (examples, labels | choices), fp32."""

    def __init__(self, data: Encoded) -> None:
        self._rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(data.lengths)

    def add(self, indices: Sequence[int], outputs: Tensor) -> None:
        """Take the logits of some examples, (examples, labels | choices)."""
        for index, row in zip(indices, outputs.float().cpu().numpy(), strict=True):
            self._rows[index] = row

    def result(self) -> NDArray[np.float32]:
        """Logits of all examples, in their order."""
        return np.stack(self._rows)


def _labels(examples: Sequence[Example]) -> list[Label]:
    return [e.label for e in examples if e.label is not None]


def _rows(scores: Scores) -> list[list[float]]:
    return [[float(s) for s in row] for row in scores]


def _require(scale: TargetScale | None) -> TargetScale:
    if scale is None:
        raise ValueError("numbers are learnt in standard deviations, so a target scale is needed")
    return scale
