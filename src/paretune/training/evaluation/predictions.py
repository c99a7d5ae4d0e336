"""Scores of predictions, and their form in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paretune import metrics
from paretune.data.example import Dataset, Example, dependence_groups
from paretune.objectives import ModelPredictions


def score(
    predictions: ModelPredictions, examples: Sequence[Example], dataset: Dataset
) -> dict[str, float]:
    """The scores of a part by name, ``primary`` and ``loss`` among them."""
    questions = dependence_groups(examples, clustered=False).get("question", ())
    return dataset.objective.score(predictions, examples, metrics.get(dataset.metric), questions)


def to_table(
    predictions: ModelPredictions, examples: Sequence[Example], dataset: Dataset
) -> dict[str, Any]:
    """The predictions of a part as the store keeps them."""
    return {
        "uid": [example.uid for example in examples],
        "label": [dataset.objective.reference(example) for example in examples],
        "prediction": predictions.prediction,
        "scores": predictions.scores,
        **dependence_groups(examples, clustered=dataset.clustered),
        **({"segment": predictions.segment} if predictions.segment else {}),
    }
