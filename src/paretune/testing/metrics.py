"""The contract of a :class:`~paretune.metrics.Metric`, as tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from paretune.metrics import Metric
from paretune.metrics.metric import Value

RUNS = 3
"""Lists of predictions that are scored side by side."""
EXAMPLES = 24


class MetricContract:
    """Tests of every metric. Subclass it as ``Test...`` and set ``metric``.

    A metric of other values than labels (0, 1, 2) and numbers overrides :meth:`references` and
    :meth:`predictions`.
    """

    metric: ClassVar[Metric]

    def references(self) -> list[Value]:
        """References of a few examples; at least two different values."""
        draw = random.Random(1)  # noqa: S311
        if self.metric.target_type == "number":
            return [draw.gauss(0, 1) for _ in range(EXAMPLES)]
        if self.metric.target_type == "label":
            return [draw.choice((0, 1, 2)) for _ in range(EXAMPLES)]
        raise NotImplementedError(f"give references of type {self.metric.target_type}")

    def predictions(self) -> list[list[Value]]:
        """Predictions of a few runs, some right and some wrong."""
        draw = random.Random(2)  # noqa: S311
        values = self.references()
        return [
            [value if draw.random() < 0.6 else draw.choice(values) for value in values]
            for _ in range(RUNS)
        ]

    def questions(self) -> list[int]:
        """The question that each example answers; empty where examples stand alone."""
        return []

    def recompute(self, predictions: Sequence[Sequence[Value]]) -> list[float]:
        """Scores from sufficient statistics."""
        references, questions = self.references(), self.questions()
        statistics = self.metric.statistics(references, predictions, questions)
        assert statistics.shape[:2] == (len(predictions), len(references))
        return [float(score) for score in self.metric.from_sums(statistics.sum(axis=1))]

    def test_statistics_sum_to_the_exact_score(self) -> None:
        exact = [
            self.metric.compute(self.references(), run, self.questions())
            for run in self.predictions()
        ]
        np.testing.assert_allclose(self.recompute(self.predictions()), exact, rtol=0, atol=1e-9)
        assert len(set(exact)) > 1, "the predictions of the runs do not differ"

    def test_scores_lie_in_the_range_and_the_references_themselves_score_best(self) -> None:
        low, high = self.metric.lowest, self.metric.highest
        best = high if self.metric.greater_is_better else low
        perfect = self.metric.compute(self.references(), self.references(), self.questions())
        assert perfect == pytest.approx(best, abs=1e-9)
        for run in self.predictions():
            score = self.metric.compute(self.references(), run, self.questions())
            assert low <= score <= high
            assert abs(score - best) > abs(perfect - best)

    def test_a_resample_is_scored_by_its_weights(self) -> None:
        """Every unit twice, by weights, is the score of the examples themselves."""
        references, questions = self.references(), self.questions()
        statistics = self.metric.statistics(references, self.predictions(), questions)
        doubled = self.metric.from_sums(2 * statistics.sum(axis=1))
        np.testing.assert_allclose(doubled, self.recompute(self.predictions()), atol=1e-9)

    def test_the_order_of_examples_does_not_matter(self) -> None:
        if self.questions():
            pytest.skip("questions stand together")
        references, run = self.references(), self.predictions()[0]
        order = random.Random(3).sample(range(len(run)), len(run))  # noqa: S311
        shuffled = [references[i] for i in order], [run[i] for i in order]
        score = self.metric.compute(references, run, [])
        assert self.metric.compute(*shuffled, []) == pytest.approx(score, abs=1e-9)

    def test_credit_is_a_share_for_each_unit(self) -> None:
        if self.metric.credit is None:
            pytest.skip("its examples are not right or wrong")
        references, questions = self.references(), self.questions()
        credit = np.asarray(self.metric.credit(references, self.predictions(), questions))
        units = len(set(questions)) if questions else len(references)
        assert credit.shape == (RUNS, units)
        assert ((credit >= 0) & (credit <= 1)).all()
        assert np.asarray(self.metric.credit(references, [references], questions)).min() == 1

    def test_it_says_what_it_is(self) -> None:
        assert self.metric.name.isidentifier() and self.metric.name.islower()
        assert self.metric.title and self.metric.description
        assert self.metric.lowest < self.metric.highest
