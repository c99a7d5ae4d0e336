"""Scores of numbers beside scikit-learn's and scipy's, and what has no score of its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from paretune.metrics.regression import PRIMARY, scores

RNG = np.random.default_rng(3)
ASKED = RNG.normal(50.0, 20.0, 40)
ANSWERED = ASKED + RNG.normal(0.0, 15.0, 40)


def test_they_are_those_of_sklearn_and_scipy() -> None:
    found = scores(ASKED, ANSWERED, "r2")
    assert found["r2"] == found["primary"] == r2_score(ASKED, ANSWERED)
    assert found["pearson"] == pytest.approx(stats.pearsonr(ASKED, ANSWERED).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(ASKED, ANSWERED).statistic)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((ASKED - ANSWERED) ** 2)))
    assert found["mae"] == pytest.approx(np.abs(ASKED - ANSWERED).mean())
    assert found["n"] == 40


@pytest.mark.parametrize("metric", PRIMARY)
def test_a_constant_answer_scores_nothing(metric: str) -> None:
    found = scores(ASKED, np.full(40, ASKED.mean()), metric)
    assert found["primary"] == pytest.approx(0.0, abs=1e-12)


def test_worse_than_the_mean_is_below_zero() -> None:
    assert scores(ASKED, -ANSWERED, "r2")["primary"] < -1


def test_labels_that_are_all_the_same_do_not_break_it() -> None:
    found = scores([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], "r2")
    assert (found["r2"], found["pearson"], found["spearman"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "predictions", "metric", "said"),
    [
        ([1.0, 2.0], [1.0], "r2", "labels"),
        ([], [], "r2", "labels"),
        ([1.0, np.nan], [1.0, 2.0], "r2", "not finite"),
        ([1.0, 2.0], [1.0, 2.0], "accuracy", "not one of r2, pearson, spearman"),
    ],
)
def test_refused(labels: list[float], predictions: list[float], metric: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        scores(labels, predictions, metric)
