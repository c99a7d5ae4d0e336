"""What a trained model answers, example by example, and how well: one form for every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paretune import metrics, objectives
from paretune.data.example import Dataset, Example, dependence_groups
from paretune.objectives import Predictions
from paretune.objectives.logits import Scores, predict_labels, predict_numbers
from paretune.objectives.target_scale import TargetScale


def from_scores(
    scores: Scores, examples: Sequence[Example], scale: TargetScale | None
) -> Predictions:
    """Answers from the outputs of a model or a baseline, (examples, labels)."""
    predict = predict_labels if scale is None else predict_numbers
    return predict(scores, examples, scale)


def from_texts(
    texts: Sequence[str], loss: float | None, segment: dict[str, list[float]] | None = None
) -> Predictions:
    """Answers that are translations."""
    return Predictions([*texts], [[] for _ in texts], loss, segment or {})


def score(given: Predictions, examples: Sequence[Example], dataset: Dataset) -> dict[str, float]:
    """The scores of a part by name, ``primary`` and ``loss`` among them."""
    objective = objectives.get(dataset.kind)
    questions = dependence_groups(examples, clustered=False).get("question", ())
    return objective.score(given, examples, metrics.get(dataset.metric), questions)


def to_table(given: Predictions, examples: Sequence[Example], dataset: Dataset) -> dict[str, Any]:
    """What the store keeps of a part; see :class:`paretune.store.record.Predictions`."""
    labels = references(examples) if dataset.kind == "translation" else [e.label for e in examples]
    return {
        "uid": [e.uid for e in examples],
        "label": labels,
        "prediction": given.prediction,
        "scores": given.scores,
        **dependence_groups(examples, clustered=dataset.clustered),
        **({"segment": given.segment} if given.segment else {}),
    }


def references(examples: Sequence[Example]) -> list[str]:
    """The targets of examples that all have one."""
    return [e.target for e in examples if e.target is not None]
