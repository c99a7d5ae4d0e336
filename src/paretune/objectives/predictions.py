"""Predictions of one part as a model or a baseline gives them, before they are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paretune.study import Answer


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions for the examples of one part, in their order: labels, numbers or texts.

    Stored with the examples' identifiers and references they are a
    :class:`paretune.store.record.Predictions`.

    Attributes:
        prediction: an index, a number or a text for each example.
        scores: the model outputs behind each; for generated texts the log-likelihood of each token
            of the reference, or empty lists.
        loss: mean over the examples (for texts, over the target tokens), in nats; None where
            nothing gives one.
        segment: scores of single segments by metric, for metrics that need a model of their own.
    """

    prediction: list[Answer]
    scores: list[list[float]]
    loss: float | None
    segment: dict[str, list[float]] = field(default_factory=dict)
