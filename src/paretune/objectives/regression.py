"""Regression: a number for a text, a pair of texts, or a row of a table.

Targets are standardised with mean and standard deviation of the training part, so that a learning
rate means the same whatever their unit. Loss: half the squared error of the standardised target.
Prediction: the model's one logit, scaled back to the target's unit.
"""

from __future__ import annotations

from paretune.objectives.classification import NO_QUESTION
from paretune.objectives.likelihood import number_likelihood
from paretune.objectives.logits import predict_numbers, squared_error
from paretune.objectives.objective import Objective
from paretune.objectives.values import fit_target_scale

REGRESSION = Objective(
    name="regression",
    title="a number",
    excluded={
        "question": NO_QUESTION,
        "labels": "labels: a regression has numbers; remove them, or change kind",
    },
    reader="numbers",
    checks=("numbers", "texts"),
    describe=lambda labels, languages: "a number",
    problem_type="regression",
    target_types=("number",),
    default_metric="r2",
    recorded_metrics=("r2", "pearson", "spearman", "rmse", "mae"),
    loss=squared_error,
    predict=predict_numbers,
    fit_target=fit_target_scale,
    likelihood=number_likelihood,
    answer_noun="number",
    answer_code="logits[:, 0].tolist()",
)
