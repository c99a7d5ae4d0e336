"""Metrics of several labels: equal to scikit-learn's, also where labels are rare or absent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from paretune import metrics
from paretune.metrics.classification import multi_hot
from paretune.testing import MetricContract

ROWS, LABELS = 60, 5


def draw(seed: int) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Label sets, of which one label is in none and some rows have none or all, and scores."""
    generator = np.random.default_rng(seed)
    table = generator.random((ROWS, LABELS)) < [0.6, 0.3, 0.1, 0.02, 0.0]
    table[:2, :4], table[2] = True, False
    scores = np.round(generator.normal(size=table.shape), 1)  # with ties
    return ["".join("01"[int(has)] for has in row) for row in table], scores


class TestLabelSets(MetricContract):
    metric = metrics.get("micro_f1")

    def references(self) -> list[Any]:
        return draw(1)[0]


class TestRanking(MetricContract):
    metric = metrics.get("ranking_average_precision")

    def references(self) -> list[Any]:
        return draw(1)[0]

    def predictions(self) -> list[Any]:
        return [draw(seed)[1] for seed in (2, 3)]

    def test_scores_lie_in_the_range_and_the_references_themselves_score_best(self) -> None:
        true = multi_hot(self.references()).astype(float)
        assert self.metric.compute(self.references(), true) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_of_scikit_learn(seed: int) -> None:
    references, scores = draw(seed)
    predicted = draw(seed + 100)[0]
    compared = multi_hot(references), multi_hot(predicted)
    for name, average in (("micro_f1", "micro"), ("multilabel_macro_f1", "macro")):
        expected = sk.f1_score(*compared, average=average, zero_division=np.nan)
        assert metrics.get(name).compute(references, predicted) == pytest.approx(expected, abs=1e-6)
    ranked = metrics.get("ranking_average_precision").compute(references, [*scores])
    expected = sk.label_ranking_average_precision_score(compared[0], scores)
    assert ranked == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("answers", [[], ["01", "011"], ["02"], [1, -1]])
def test_what_is_no_label_set_is_refused(answers: list[Any]) -> None:
    with pytest.raises(ValueError, match="texts of 0 and 1"):
        multi_hot(answers)
