"""Regression: a number for a text, a pair of texts, or a row of a table.

Targets are standardised with mean and standard deviation of the training part, so that a learning
rate means the same whatever their unit. Loss: half the squared error of the standardised target.
Prediction: the model's one logit, scaled back to the target's unit.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from paretune.answers import Answer
from paretune.objectives.classification import NO_QUESTION, NO_TEXTS
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
from paretune.objectives.objective import (
    LossOptions,
    ModelPredictions,
    Objective,
    Scores,
    TargetScale,
)

if TYPE_CHECKING:
    from torch import Tensor


def fit_target_scale(train: Sequence[Example]) -> TargetScale | None:
    """The scale of the numbers of ``train``, if it has numbers."""
    numbers = [e.label for e in train if isinstance(e.label, float)]
    if not numbers:
        return None
    # A part whose numbers are all the same is an error of the audit; it must not divide by 0 here.
    return TargetScale(statistics.fmean(numbers), statistics.pstdev(numbers) or 1.0)


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


def predict_numbers(
    scores: Scores, examples: Sequence[Example], target_scale: TargetScale | None
) -> ModelPredictions:
    """The number in the label's own unit; ``scores`` (examples, 1) in standard deviations."""
    scale = _require(target_scale)
    standardised = scores.astype(np.float64)[:, 0]
    errors = standardised - (np.array([e.label for e in examples]) - scale.mean) / scale.deviation
    numbers: list[Answer] = [float(s) * scale.deviation + scale.mean for s in standardised]
    return ModelPredictions(
        numbers, scores.astype(np.float64).tolist(), float(np.mean(errors**2) / 2)
    )


def _require(scale: TargetScale | None) -> TargetScale:
    if scale is None:
        raise ValueError("numbers are learnt in standard deviations, so a target scale is needed")
    return scale


REGRESSION = Objective(
    name="regression",
    title="a number",
    excluded={
        "question": NO_QUESTION,
        "labels": "labels: a regression has numbers; remove them, or change kind",
    },
    reader="numbers",
    problem_type="regression",
    default_metric="r2",
    recorded_metrics=("r2", "pearson", "spearman", "rmse", "mae"),
    loss=squared_error,
    predict=predict_numbers,
    fit_target=fit_target_scale,
    answer_code="logits[:, 0].tolist()",
)
EXTERNAL_REGRESSION = replace(
    REGRESSION,
    name="external_regression",
    title="a number for data that a command reads",
    required=("id", "label"),
    excluded={**REGRESSION.excluded, **NO_TEXTS},
    reader="numbered_ids",
    baselines=("majority",),
)
