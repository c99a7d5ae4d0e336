"""What a trained model answers, example by example, and how well: one form for every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paretune.data.example import Dataset, Example, dependence_groups
from paretune.data.target_scale import TargetScale
from paretune.metrics import answer_sets, classification, regression, translation
from paretune.study import Answer
from paretune.training.objective import Scores, answers, mean_loss


@dataclass(frozen=True)
class Predictions:
    """Answers to the examples of one part.

    Attributes:
        prediction: one for each example.
        scores: model outputs behind each; of a translation none.
        loss: mean, in nats; None where nothing gives one.
        segment: of a translation, by metric what each segment scores.
    """

    prediction: list[Answer]
    scores: list[list[float]]
    loss: float | None
    segment: dict[str, list[float]] = field(default_factory=dict)


def from_scores(
    scores: Scores, examples: Sequence[Example], scale: TargetScale | None
) -> Predictions:
    """Answers from the outputs of a model or a baseline, (examples, labels)."""
    labels = [e.label for e in examples if e.label is not None]
    rows = [[float(s) for s in row] for row in scores]
    return Predictions([*answers(scores, scale)], rows, mean_loss(scores, labels, scale))


def from_texts(
    texts: Sequence[str], loss: float | None, segment: dict[str, list[float]] | None = None
) -> Predictions:
    """Answers that are translations."""
    return Predictions([*texts], [[] for _ in texts], loss, segment or {})


def score(given: Predictions, examples: Sequence[Example], dataset: Dataset) -> dict[str, float]:
    """The scores of a part by name, ``primary`` and ``loss`` among them."""
    labels = [e.label for e in examples if e.label is not None]
    found: dict[str, float]
    if dataset.kind == "translation":
        texts = [str(text) for text in given.prediction]
        found = translation.scores(texts, references(examples), dataset.metric)
        found |= {name: sum(each) / len(each) for name, each in given.segment.items()}
    elif dataset.kind == "regression":
        found = regression.scores(labels, _numbers(given), dataset.metric)
    elif dataset.kind == "answer_set":
        questions = dependence_groups(examples, clustered=False)["question"]
        found = answer_sets.scores(labels, _numbers(given), questions, dataset.metric)
    else:
        classes = len(dataset.labels)
        found = classification.scores(labels, _numbers(given), classes, dataset.metric)
    return found if given.loss is None else {**found, "loss": given.loss}


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


def _numbers(given: Predictions) -> list[Any]:
    return list(given.prediction)
