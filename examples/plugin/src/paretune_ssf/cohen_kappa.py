"""Cohen's kappa: agreement beyond what the frequencies of the labels give by chance.

Source: Cohen 1960, Educational and Psychological Measurement 20(1).
kappa = (p - e) / (1 - e), with p the share of right answers and e the share that would be right if
answers and labels were drawn independently, each with its own frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics import Metric

Array = NDArray[np.float64]


def statistics(references: Sequence[Any], predictions: Any, questions: Sequence[int], /) -> Array:
    """One-hot references and predictions, and whether they agree; (runs, examples, columns)."""
    answers = np.asarray(predictions)
    labels = np.broadcast_to(np.asarray(references), answers.shape)
    one_hot = np.eye(1 + max(labels.max(), answers.max()))
    right = (labels == answers)[..., None]
    return np.concatenate([right, one_hot[labels], one_hot[answers]], axis=-1)


def from_sums(sums: Array) -> Array:
    """Kappa of summed statistics; (..., columns) -> (...)."""
    right, labels, answers = sums[..., 0], *np.split(sums[..., 1:], 2, axis=-1)
    n = labels.sum(-1)
    observed, expected = right / n, (labels * answers).sum(-1) / n**2
    # With one label in both there is nothing beyond chance: all right, and kappa is 1.
    certain = expected == 1
    return np.where(certain, 1.0, (observed - expected) / np.where(certain, 1.0, 1 - expected))


METRIC = Metric(
    name="cohen_kappa",
    title="Cohen's kappa",
    description="agreement of answers and labels beyond chance",
    target_type="label",
    statistics=statistics,
    from_sums=from_sums,
    credit=lambda references, predictions, questions: statistics(
        references, predictions, questions
    )[..., 0],
    lowest=-1.0,
)
