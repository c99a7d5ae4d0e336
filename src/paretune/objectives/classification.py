"""Classification: which label fits a text, a pair of texts, or two spans marked in a text.

Loss: cross-entropy of the logits of the model's classification head. Prediction: the label with the
highest logit.

Multiple choice: which of several continuations fits a text. The model reads the text with each
choice and gives one logit for each; the loss is the cross-entropy over the choices of an example.

Answer sets: whether an answer to a question on a passage is right, where several may be. Each
example is one answer, classified as right or wrong. A question counts as a whole too: scores know
which question each answer belongs to (MultiRC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from paretune.objectives.encoding import Encoded
from paretune.objectives.likelihood import label_likelihood
from paretune.objectives.objective import (
    LossOptions,
    ModelPredictions,
    Objective,
    Scores,
    TargetScale,
)

if TYPE_CHECKING:
    from torch import Tensor

    from paretune.data.example import Example

NO_QUESTION = "question goes with kind multiple_choice; for two texts: text_pair"
NO_FEATURES = "features go with kind classification or regression"


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


CLASSIFICATION = Objective(
    name="classification",
    title="one of several labels",
    excluded={"question": NO_QUESTION},
    describe=lambda labels, languages: f"labels {', '.join(labels)}",
    readouts=("label_words", "text"),
    target_types=("label",),
    default_metric="accuracy",
    recorded_metrics=("accuracy", "macro_f1", "weighted_f1"),
    predicts_labels=True,
    weights_classes=True,
    loss=cross_entropy,
    predict=predict_labels,
    likelihood=label_likelihood,
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
    own_data=False,
)
ANSWER_SET = replace(
    CLASSIFICATION,
    name="answer_set",
    title="which answers to a question are right",
    own_data=False,
    excluded={},
    target_types=("label", "answer_set"),
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
    checks=("texts",),
    weights_classes=False,
    head="multiple_choice",
    problem_type=None,
    num_logits=lambda labels: 1,
    peft_task_type=None,
    usage="choices",
)
