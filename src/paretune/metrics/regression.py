"""Metrics of numbers. R², Pearson and Spearman are functions of sums over examples of
1, y, y², a, a², ya and |a - y|, with y the reference and a the prediction.

A constant has no correlation with anything: Pearson and Spearman are 0 then, and where all
references are the same, R² is 0 unless the predictions are exact.

Rewards shall be high where the reference is 1 and low where it is 0. Where none shall be low, each
is the difference of a pair and is compared with 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.metric import Array, Compute, Metric, Questions, Runs, Values, divide

Numbers = NDArray[np.float64]
_NO_VARIANCE = 1e-12
"""A smaller variance is the rounding of a difference of equal sums."""


def _by_scikit_learn(name: str) -> Compute:
    """A score of ``sklearn.metrics``, of finite numbers."""

    def compute(references: Values, predictions: Values, questions: Questions) -> float:
        from sklearn import metrics

        return float(getattr(metrics, name)(*_finite(references, predictions)))

    return compute


def _pearson(references: Values, predictions: Values, questions: Questions = ()) -> float:
    label, predicted = _finite(references, predictions)
    if np.ptp(label) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(np.corrcoef(label, predicted)[0, 1])


def _spearman(references: Values, predictions: Values, questions: Questions) -> float:
    from scipy.stats import rankdata

    return _pearson(*map(rankdata, _finite(references, predictions)))


def _finite(references: Values, predictions: Values) -> tuple[Numbers, Numbers]:
    label, predicted = np.asarray(references, dtype=float), np.asarray(predictions, dtype=float)
    if label.ndim != 1 or label.shape != predicted.shape:
        raise ValueError(f"references {label.shape} and predictions {predicted.shape}")
    if not (np.isfinite(label).all() and np.isfinite(predicted).all()):
        raise ValueError("a reference or a prediction is not finite")
    return label, predicted


def moments(references: Values, predictions: Runs, questions: Questions = ()) -> Array:
    """1, y, y², a, a², ya of each example; (runs, examples, 6).

    Both are moved by the references' mean, which changes no score and keeps the sums small.
    """
    label = np.array(references, dtype=float)
    a = np.array(predictions, dtype=float) - label.mean()
    y = np.broadcast_to(label - label.mean(), a.shape)
    return np.stack([np.ones_like(a), y, y * y, a, a * a, y * a], axis=-1)


def _rank_moments(references: Values, predictions: Runs, questions: Questions) -> Array:
    """:func:`moments` of ranks among all examples, also when some are resampled."""
    from scipy.stats import rankdata

    return moments(rankdata(references), rankdata(predictions, axis=1))


def _absolute_errors(references: Values, predictions: Runs, questions: Questions) -> Array:
    """1 and the absolute error of each example; (runs, examples, 2)."""
    errors = np.abs(np.array(predictions, dtype=float) - np.array(references, dtype=float))
    return np.stack([np.ones_like(errors), errors], axis=-1)


def _r2_from_sums(sums: Array) -> Array:
    n, y, yy, _, aa, ya = np.moveaxis(sums, -1, 0)
    return np.asarray(
        1 - divide(yy - 2 * ya + aa, yy - y * y / n, otherwise=1.0, above=_NO_VARIANCE)
    )


def _correlation_from_sums(sums: Array) -> Array:
    n, y, yy, a, aa, ya = np.moveaxis(sums, -1, 0)
    variances = (yy - y * y / n) * (aa - a * a / n)
    return divide(ya - y * a / n, np.sqrt(np.maximum(variances, 0.0)), above=_NO_VARIANCE)


def _rmse_from_sums(sums: Array) -> Array:
    n, _, yy, _, aa, ya = np.moveaxis(sums, -1, 0)
    return np.asarray(np.sqrt(np.maximum(yy - 2 * ya + aa, 0.0) / n))


def count_wins(references: Values, rewards: Runs, questions: Questions = ()) -> Array:
    """Share of the other kind that each stands above, or below; ties count half."""
    good = np.asarray(references) == 1
    signed = np.where(good, 1, -1) * np.array(rewards, dtype=float)
    wins = np.empty(signed.shape)
    for row, won in zip(signed, wins, strict=True):
        for kind in (good, ~good):
            rivals = np.sort(-row[~kind]) if (~kind).any() else np.zeros(1)
            low, high = (np.searchsorted(rivals, row[kind], end) for end in ("left", "right"))
            won[kind] = (low + high) / (2 * len(rivals))
    return wins


def _split_kinds(references: Values, values: Array, score: Array | float) -> Array:
    """Make columns of good and of bad rewards, 1 and value, and the score; (runs, examples, 5)."""
    good = np.asarray(references) == 1
    columns = np.broadcast_arrays(good, good * values, ~good, ~good * values, score)
    return np.stack([column.astype(float) for column in columns], axis=-1)


def _reward_accuracies(references: Values, rewards: Runs, questions: Questions) -> Array:
    wins = count_wins(references, rewards)
    return _split_kinds(references, wins, wins.mean(axis=1, keepdims=True))


def _reward_margins(references: Values, rewards: Runs, questions: Questions) -> Array:
    signs = np.where(np.asarray(references) == 1, 1, -1)
    return _split_kinds(references, signs * np.array(rewards, dtype=float), 0.0)


def _rewards_from_sums(sums: Array) -> Array:
    # If both kinds are drawn anew, it moves by the mean of each (DeLong et al. 1988).
    good, high, bad, low, score = np.moveaxis(sums, -1, 0)
    score = divide(score, good + bad)
    return divide(high, good, otherwise=score) + divide(low, bad, otherwise=score) - score


R2 = Metric(
    name="r2",
    title="R²",
    description="1 - squared error / variance: 1 is exact, 0 is the mean, below is worse",
    target_type="number",
    exact=_by_scikit_learn("r2_score"),
    statistics=moments,
    from_sums=_r2_from_sums,
    lowest=-math.inf,
)
PEARSON = Metric(
    name="pearson",
    title="Pearson correlation",
    description="linear correlation of predictions and references",
    target_type="number",
    exact=_pearson,
    statistics=moments,
    from_sums=_correlation_from_sums,
    lowest=-1.0,
)
SPEARMAN = Metric(
    name="spearman",
    title="Spearman correlation",
    description="correlation of the ranks of predictions and references",
    target_type="number",
    exact=_spearman,
    statistics=_rank_moments,
    from_sums=_correlation_from_sums,
    lowest=-1.0,
)
_ERROR: dict[str, Any] = {
    "target_type": "number",
    "highest": math.inf,
    "greater_is_better": False,
    "selectable": False,
}
RMSE = Metric(
    name="rmse",
    title="RMSE",
    description="root mean squared error, in the label's unit",
    exact=_by_scikit_learn("root_mean_squared_error"),
    statistics=moments,
    from_sums=_rmse_from_sums,
    **_ERROR,
)
MAE = Metric(
    name="mae",
    title="MAE",
    description="mean absolute error, in the label's unit",
    exact=_by_scikit_learn("mean_absolute_error"),
    statistics=_absolute_errors,
    from_sums=lambda sums: sums[..., 1] / sums[..., 0],
    **_ERROR,
)
REWARD_ACCURACY = Metric(
    name="reward_accuracy",
    title="reward accuracy",
    description="share of pairs whose better answer has the higher reward; ties count half",
    target_type="reward",
    statistics=_reward_accuracies,
    from_sums=_rewards_from_sums,
    credit=count_wins,
)
REWARD_MARGIN = Metric(
    name="reward_margin",
    title="reward margin",
    description="mean reward of better answers minus that of worse ones",
    target_type="reward",
    statistics=_reward_margins,
    from_sums=_rewards_from_sums,
    lowest=-math.inf,
    highest=math.inf,
    selectable=False,
)
METRICS = (R2, PEARSON, SPEARMAN, RMSE, MAE, REWARD_ACCURACY, REWARD_MARGIN)
