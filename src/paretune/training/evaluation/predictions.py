"""Scores of predictions, and the form in which the store keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paretune import metrics
from paretune.data.example import Dataset, Example, dependence_groups
from paretune.objectives import Predictions


def score(
    predictions: Predictions, examples: Sequence[Example], dataset: Dataset
) -> dict[str, float]:
    """The scores of a part by name, ``primary`` and ``loss`` among them."""
    objective = dataset.objective
    questions = dependence_groups(examples, clustered=False).get("question", ())
    return objective.score(predictions, examples, metrics.get(dataset.metric), questions)


def to_table(
    predictions: Predictions, examples: Sequence[Example], dataset: Dataset
) -> dict[str, Any]:
    """What the store keeps of a part; see :class:`paretune.store.record.Predictions`."""
    objective = dataset.objective
    return {
        "uid": [example.uid for example in examples],
        "label": [objective.reference(example) for example in examples],
        "prediction": predictions.prediction,
        "scores": predictions.scores,
        **dependence_groups(examples, clustered=dataset.clustered),
        **({"segment": predictions.segment} if predictions.segment else {}),
    }
