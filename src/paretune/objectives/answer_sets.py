"""Answer sets: whether an answer to a question on a passage is right, where several may be.

Each example is one answer, and the model classifies it as right or wrong. A question counts as a
whole too: scores know which question each answer belongs to (MultiRC).
"""

from __future__ import annotations

from paretune.objectives.likelihood import label_likelihood
from paretune.objectives.logits import cross_entropy, predict_labels
from paretune.objectives.objective import Objective
from paretune.objectives.sequence_classification import describe

OBJECTIVE = Objective(
    name="answer_set",
    title="which answers to a question are right",
    own_data=False,
    describe=describe,
    readouts=("label_words", "text"),
    target_types=("label", "answer_set"),
    default_metric="f1a_em",
    recorded_metrics=("accuracy", "macro_f1", "weighted_f1", "f1a", "em"),
    predicts_labels=True,
    loss=cross_entropy,
    predict=predict_labels,
    likelihood=label_likelihood,
)
