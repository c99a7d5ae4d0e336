"""Sequence classification: which label fits a text, a pair of texts, or two spans marked in a text.

Loss: cross-entropy of the logits of the model's classification head. Prediction: the label with the
highest logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paretune.objectives.likelihood import label_likelihood
from paretune.objectives.logits import cross_entropy, predict_labels
from paretune.objectives.objective import Objective

NO_QUESTION = "question goes with kind multiple_choice; for two texts: text_pair"
NO_FEATURES = "features go with kind classification or regression"


def describe(labels: Sequence[str], languages: Sequence[str]) -> str:
    """``labels spam, ham``."""
    return f"labels {', '.join(labels)}"


CLASSIFICATION = Objective(
    name="classification",
    title="one of several labels",
    excluded={"question": NO_QUESTION},
    describe=describe,
    readouts=("label_words", "text"),
    target_types=("label",),
    default_metric="accuracy",
    recorded_metrics=("accuracy", "macro_f1", "weighted_f1"),
    predicts_labels=True,
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
