"""Classification: which label fits a text, a pair of texts, or two spans marked in a text.

Loss: cross-entropy of the logits of the model's classification head. Prediction: the label with the
highest logit.

Multiple choice: which of several continuations fits a text. The model reads the text with each
choice and gives one logit for each; the loss is the cross-entropy over the choices of an example.

Answer sets: whether an answer to a question on a passage is right, where several may be. Each
example is one answer, classified as right or wrong. A question counts as a whole too: scores know
which question each answer belongs to (MultiRC).

Several labels: any of them, none included, may fit. The loss is the binary cross-entropy of each
label's logit, the mean over the labels. Predicted are the labels whose probability is above a
threshold: the one with the highest F1 of that label on the selection part (Yang 2001, SIGIR,
``SCut``). A model that tells nothing of a label predicts it always, as is best for F1 (Lipton et
al. 2014, arXiv:1402.1892).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paretune.answers import Answer
from paretune.metrics.classification import multi_hot, write_label_set
from paretune.objectives.encoding import Encoded
from paretune.objectives.example import Example
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


USUAL_THRESHOLD = 0.5
NO_QUESTION = "question goes with kind multiple_choice; for two texts: text_pair"
NO_FEATURES = "features go with kind classification or regression"
NO_TEXTS = dict.fromkeys(
    ("text", "text_pair", "choices", "features", "question", "unlabelled"),
    "an external task has id and label: a command reads all else",
)


def cross_entropy(
    logits: Tensor, data: Encoded, indices: Sequence[int], options: LossOptions
) -> Tensor:
    """Cross-entropy summed over the examples, or their words, in nats.

    ``logits`` (examples, labels | choices), or (words, labels).
    """
    import torch
    import torch.nn.functional as F

    from paretune.device_transfer import to_device

    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = to_device(data.class_labels(indices), wide.device)
    weight = None
    if options.class_weights is not None:
        weight = torch.tensor(options.class_weights, dtype=wide.dtype, device=wide.device)[:, 0]
    return F.cross_entropy(
        wide, labels, weight, reduction="sum", label_smoothing=options.label_smoothing
    )


def predict_labels(
    scores: Scores, examples: Sequence[Example], target_scale: TargetScale | None
) -> ModelPredictions:
    """The label with the highest score; ``scores`` (examples, labels | choices)."""
    labels = np.array([e.label for e in examples], dtype=int)
    wide = scores.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    log_norm = np.log(np.exp(wide - top).sum(axis=1)) + top[:, 0]
    loss = float(np.mean(log_norm - wide[np.arange(len(labels)), labels]))
    return ModelPredictions([int(i) for i in scores.argmax(1)], wide.tolist(), loss)


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


CLASSIFICATION = Objective(
    name="classification",
    title="one of several labels",
    excluded={"question": NO_QUESTION},
    readouts=("label_words", "text"),
    default_metric="accuracy",
    recorded_metrics=("accuracy", "macro_f1", "weighted_f1"),
    loss_settings=("label_smoothing", "class_weights"),
    loss=cross_entropy,
    predict=predict_labels,
)
SCORES = replace(
    CLASSIFICATION,
    name="scores",
    title="a score for each row that was computed elsewhere",
    reader="",
    readouts=(),
    baselines=(),
    default_metric="mean_score",
    recorded_metrics=("mean_score",),
    loss_settings=(),
)
EXTERNAL = replace(
    CLASSIFICATION,
    name="external",
    title="one of several labels for data that a command reads",
    required=("id", "label"),
    excluded=NO_TEXTS,
    reader="ids",
    readouts=(),
    baselines=("majority",),
    loss_settings=(),
)
PAIR = replace(
    CLASSIFICATION,
    name="pair",
    title="one of several labels for two texts",
    required=("text", "label", "text_pair"),
    excluded={"question": NO_QUESTION, "features": NO_FEATURES},
)
SPAN_PAIR = replace(
    CLASSIFICATION,
    name="span_pair",
    title="one of several labels for two spans of a text",
    reader="",
)
ANSWER_SET = replace(
    CLASSIFICATION,
    name="answer_set",
    title="which answers to a question are right",
    reader="",
    excluded={},
    default_metric="f1a_em",
    recorded_metrics=("accuracy", "macro_f1", "weighted_f1", "f1a", "em"),
)
MULTIPLE_CHOICE = replace(
    CLASSIFICATION,
    name="multiple_choice",
    title="one of several choices",
    required=("text", "label", "choices"),
    excluded={"features": NO_FEATURES},
    reader="choices",
    loss_settings=("label_smoothing",),
    head="multiple_choice",
)
MULTILABEL = replace(
    CLASSIFICATION,
    name="multilabel",
    title="any of several labels",
    required=("text",),
    excluded={"question": NO_QUESTION, "choices": "choices go with kind multiple_choice"},
    reader="label_sets",
    readouts=(),
    problem_type="multi_label_classification",
    default_metric="multilabel_macro_f1",
    recorded_metrics=("micro_f1", "multilabel_macro_f1", "ranking_average_precision"),
    decide=decide,
    loss_settings=("class_weights",),
    loss=binary_cross_entropy,
    predict=predict_label_sets,
    answer_code="""[
        [model.config.id2label[i] for i, p in enumerate(row) if p > thresholds[i]]
        for row in logits.double().sigmoid().tolist()
    ]""",
)
