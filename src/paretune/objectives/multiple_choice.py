"""Multiple choice: which of several continuations fits a text.

The model reads the text with each choice and gives one logit for each. Loss: cross-entropy over the
choices of an example. Prediction: the index of the choice with the highest logit.
"""

from __future__ import annotations

from paretune.objectives.likelihood import label_likelihood
from paretune.objectives.logits import cross_entropy, predict_labels
from paretune.objectives.objective import Objective
from paretune.objectives.sequence_classification import NO_FEATURES, describe


def _one_logit(labels: int) -> int:
    return 1


OBJECTIVE = Objective(
    name="multiple_choice",
    title="one of several choices",
    required=("text", "label", "choices"),
    excluded={"features": NO_FEATURES},
    reader="choices",
    checks=("choices", "texts"),
    describe=describe,
    head="multiple_choice",
    problem_type=None,
    num_logits=_one_logit,
    readouts=("label_words", "text"),
    target_types=("label",),
    default_metric="accuracy",
    recorded_metrics=("accuracy", "macro_f1", "weighted_f1"),
    predicts_labels=True,
    loss=cross_entropy,
    predict=predict_labels,
    likelihood=label_likelihood,
    peft_task_type=None,
    usage="choices",
)
