"""The constant answer: what it scores, and who gives it."""

from __future__ import annotations

from collections.abc import Sequence

from paretune.analysis.scores import Metric, score
from paretune.store.record import Predictions


def is_constant(predictions: Predictions) -> bool:
    """Whether two or more examples all got the same answer: nothing was learnt from the text."""
    return len(predictions.prediction) > 1 and len(set(predictions.prediction)) == 1


def constant_scores(labels: Sequence[int], metric: Metric) -> dict[int, float]:
    """What answering one label always would score, for each label that occurs."""
    return {label: score(labels, [label] * len(labels), metric) for label in sorted(set(labels))}


def best_constant(labels: Sequence[int], metric: Metric) -> int:
    """The constant answer that scores highest; the smaller label where two score the same."""
    scores = constant_scores(labels, metric)
    return max(scores, key=lambda label: (scores[label], -label))
