"""Metrics of scores that somebody computed for each row: the prediction is the score, 0 to 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.metrics.metric import Array, Metric, Questions, Runs, Values

SCORE = "score"


def count_scores(references: Values, scores: Runs, questions: Questions = ()) -> Array:
    """Each row's score, and 1; (runs, examples, 2)."""
    values = np.asarray(scores, dtype=np.float64)
    return np.stack([values, np.ones_like(values)], axis=-1)


_OF_SCORES: dict[str, Any] = {
    "target_type": SCORE,
    "statistics": count_scores,
    "from_sums": lambda sums: sums[..., 0] / sums[..., 1],
}
MEAN_SCORE = Metric(
    name="mean_score",
    title="mean score",
    description="mean of the scores of rows, 0 to 1, that were computed elsewhere",
    **_OF_SCORES,
)
SHARE_RIGHT = Metric(
    name="share_right",
    title="share right",
    description="share of rows whose score is 1, where all scores are 0 or 1",
    credit=lambda references, scores, questions: np.asarray(scores, dtype=np.float64),
    **_OF_SCORES,
)
METRICS = (MEAN_SCORE, SHARE_RIGHT)
