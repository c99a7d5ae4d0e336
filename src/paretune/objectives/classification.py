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

from dataclasses import replace

from paretune.objectives.likelihood import label_likelihood
from paretune.objectives.logits import cross_entropy, predict_labels
from paretune.objectives.objective import Objective

NO_QUESTION = "question goes with kind multiple_choice; for two texts: text_pair"
NO_FEATURES = "features go with kind classification or regression"


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
    head="multiple_choice",
    problem_type=None,
    num_logits=lambda labels: 1,
    peft_task_type=None,
    usage="choices",
)
