"""Metrics of numbers beside scikit-learn's and scipy's, and what has no score of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from paretune import metrics
from paretune.metrics.regression import METRICS

RNG = np.random.default_rng(3)
REFERENCES = RNG.normal(50.0, 20.0, 40)
PREDICTIONS = REFERENCES + RNG.normal(0.0, 15.0, 40)


def compute(name: str, references: Sequence[float], predictions: Sequence[float]) -> float:
    return metrics.get(name).compute(references, predictions, ())


def test_they_are_those_of_sklearn_and_scipy() -> None:
    both = REFERENCES, PREDICTIONS
    assert compute("r2", *both) == r2_score(*both)
    assert compute("pearson", *both) == pytest.approx(stats.pearsonr(*both).statistic)
    assert compute("spearman", *both) == pytest.approx(stats.spearmanr(*both).statistic)
    errors = REFERENCES - PREDICTIONS
    assert compute("rmse", *both) == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert compute("mae", *both) == pytest.approx(np.abs(errors).mean())


@pytest.mark.parametrize("name", ["r2", "pearson", "spearman"])
def test_a_constant_prediction_scores_nothing(name: str) -> None:
    constant = np.full(40, REFERENCES.mean())
    assert compute(name, REFERENCES, constant) == pytest.approx(0.0, abs=1e-12)


def test_worse_than_the_mean_is_below_zero() -> None:
    assert compute("r2", REFERENCES, -PREDICTIONS) < -1


def test_labels_that_are_all_the_same_do_not_break_it() -> None:
    for name in ("r2", "pearson", "spearman"):
        assert compute(name, [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_sums_give_the_scores_far_from_zero(metric: metrics.Metric) -> None:
    rng = np.random.default_rng(0)
    references = rng.normal(1e4, 3.0, 30)
    predictions = references + rng.normal(0, 2.0, 30)
    exact = metric.compute(references, predictions, ())
    (table,) = metric.statistics(references, [predictions], ())
    assert float(metric.from_sums(table.sum(axis=0))) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [([1.0, 2.0], [1.0], "references"), ([], [], "references"), ([1.0, np.nan], [1.0, 2.0], "not")],
)
def test_refused(references: list[float], predictions: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute("r2", references, predictions)
