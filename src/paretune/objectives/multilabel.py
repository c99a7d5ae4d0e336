"""Several labels: which of them, none included, fit a text, two texts, or a row of a table.

An answer is a text of 0 and 1, a character for each label (:mod:`paretune.metrics.label_sets`).
Loss: binary cross-entropy of each label's logit, the mean over the labels. Prediction: the labels
whose probability is above a threshold. It is the one with the highest F1 of that label on the
selection part (Yang 2001, SIGIR, ``SCut``): a model that tells nothing of a label predicts it
always, as is best for F1 (Lipton et al. 2014, arXiv:1402.1892).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.label_sets import LABEL_SET, multi_hot, write_label_set
from paretune.objectives.classification import NO_QUESTION
from paretune.objectives.encoding import Encoded
from paretune.objectives.likelihood import label_likelihood
from paretune.objectives.objective import (
    LossOptions,
    ModelPredictions,
    Objective,
    PartPredictions,
    Scores,
    TargetScale,
)

if TYPE_CHECKING:
    from torch import Tensor

    from paretune.data.example import Example
    from paretune.study import Answer

USUAL_THRESHOLD = 0.5


def binary_cross_entropy(
    logits: Tensor, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Mean over the labels, summed over the examples, in nats; ``logits`` (examples, labels)."""
    import torch
    import torch.nn.functional as F

    from paretune.device_transfer import to_device

    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = to_device(multi_hot(data.labels[i] for i in indices), wide.device).to(wide.dtype)
    losses = F.binary_cross_entropy_with_logits(wide, labels, reduction="none")
    if options.class_weights is not None:
        absent, present = wide.new_tensor(options.class_weights)
        losses = losses * torch.where(labels > 0, present, absent)
    return losses.mean(dim=-1).sum()


def predict_label_sets(
    scores: Scores, examples: Sequence[Example], target_scale: TargetScale | None
) -> ModelPredictions:
    """The labels that are more probable than not; ``scores`` (examples, labels)."""
    wide = scores.astype(np.float64)
    true = multi_hot(e.label for e in examples)
    loss = float(np.logaddexp(0, np.where(true, -wide, wide)).mean())
    return ModelPredictions(_predict_above(wide, USUAL_THRESHOLD), wide.tolist(), loss)


def decide(
    predictions: PartPredictions, selection: Sequence[Example]
) -> tuple[PartPredictions, Sequence[float]]:
    """The predictions with a threshold for each label, half where no example has it."""
    if "selection" not in predictions:
        return predictions, ()
    thresholds = []
    probabilities = _probabilities(predictions["selection"].scores)
    true = multi_hot(e.label for e in selection)
    for column, present in zip(probabilities.T, true.T, strict=True):
        order = np.argsort(-column, kind="stable")
        falling, hits = column[order], np.cumsum(present[order])
        following = np.append(falling[1:], 0.0)
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
        f1[falling == following] = 0.0  # no threshold parts equal probabilities
        middle = np.round((falling + following) / 2, 6)
        parting = np.where((following <= middle) & (middle < falling), middle, following)
        best = np.lexsort((-np.abs(parting - USUAL_THRESHOLD), f1))[-1]
        thresholds.append(float(parting[best]) if hits[-1] else USUAL_THRESHOLD)
    decided = {
        part: replace(answers, prediction=_predict_above(answers.scores, thresholds))
        for part, answers in predictions.items()
    }
    return decided, thresholds


def _predict_above(scores: Any, thresholds: float | Sequence[float]) -> list[Answer]:
    return [*map(write_label_set, _probabilities(scores) > thresholds)]


def _probabilities(scores: Any) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(np.asarray(scores, dtype=np.float64)))


MULTILABEL = Objective(
    name="multilabel",
    title="any of several labels",
    required=("text",),
    excluded={"question": NO_QUESTION, "choices": "choices go with kind multiple_choice"},
    reader="label_sets",
    checks=("labels", "texts"),
    describe=lambda labels, languages: f"any of the labels {', '.join(labels)}",
    problem_type="multi_label_classification",
    target_types=(LABEL_SET,),
    default_metric="multilabel_macro_f1",
    recorded_metrics=("micro_f1", "multilabel_macro_f1", "ranking_average_precision"),
    weights_classes=True,
    decide=decide,
    loss=binary_cross_entropy,
    predict=predict_label_sets,
    likelihood=label_likelihood,
    parse_answer=lambda names, labels: write_label_set(label in names for label in labels),
    answer_noun="labels",
    answer_code="""[
        [model.config.id2label[i] for i, p in enumerate(row) if p > thresholds[i]]
        for row in logits.double().sigmoid().tolist()
    ]""",
)
