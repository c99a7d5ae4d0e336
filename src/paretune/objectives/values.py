"""What an objective asks of a head, the scale of its targets, and its predictions: plain values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paretune.data.example import Example
if TYPE_CHECKING:
    from paretune.study import Answer


@dataclass(frozen=True)
class HeadSpec:
    """A head, and what its config says of the task.

    Attributes:
        kind: ``sequence_classification``, ``multiple_choice``, ``seq2seq_lm`` or ``causal_lm``: a
            head of transformers (:mod:`paretune.models.structure.topology` opens it).
        purpose: what the model is to do, for errors: ``classification``.
        logits: outputs for one text; 0 for the checkpoint's own language-model head.
        labels: their names (``id2label``).
    """

    kind: str
    purpose: str
    logits: int = 0
    labels: tuple[str, ...] = ()
    problem_type: str | None = None
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of the numbers in the training part."""

    mean: float
    deviation: float

    def standardise(self, examples: Sequence[Example]) -> list[float]:
        """The labels in standard deviations from the mean."""
        return [(e.label - self.mean) / self.deviation for e in examples if e.label is not None]


def fit_target_scale(train: Sequence[Example]) -> TargetScale | None:
    """The scale of the numbers of ``train``; None where it has none."""
    numbers = [e.label for e in train if isinstance(e.label, float)]
    if not numbers:
        return None
    # A part whose numbers are all the same is an error of the audit; it must not divide by 0 here.
    return TargetScale(statistics.fmean(numbers), statistics.pstdev(numbers) or 1.0)


@dataclass(frozen=True)
class LossOptions:
    """What the loss of a run needs beside outputs and labels; chosen once for the run."""

    target_scale: TargetScale | None = None
    label_smoothing: float = 0.0


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
