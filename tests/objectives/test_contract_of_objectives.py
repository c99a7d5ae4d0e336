"""The suites for objectives and metrics, on the built-in ones."""

from __future__ import annotations

import pytest

from paretune import metrics, objectives
from paretune.data.example import Example
from paretune.testing import MetricContract, ObjectiveContract

LONG = "The cat sat on the mat, and the dog slept by the door. " * 3


def make_examples(labels: list[int | float], choices: int = 1) -> list[Example]:
    return [
        Example(
            f"train:{i}", tuple((f"{LONG}" if i % 3 else "water", None) for _ in range(choices)),
            label, f"line {i}",
        )
        for i, label in enumerate(labels)
    ]  # fmt: skip


class TestClassification(ObjectiveContract):
    objective = objectives.get("classification")

    def examples(self) -> list[Example]:
        return make_examples([0, 1] * 5)


class TestMultipleChoice(ObjectiveContract):
    objective = objectives.get("multiple_choice")

    def examples(self) -> list[Example]:
        return make_examples([0, 1] * 5, choices=2)


class TestRegression(ObjectiveContract):
    objective = objectives.get("regression")
    num_labels = 0

    def examples(self) -> list[Example]:
        return make_examples([0.5 * i for i in range(10)])


SCORED = [
    metric
    for metric in map(metrics.get, metrics.names())
    if metric.target_type in ("label", "number") and not metric.parts
]


@pytest.fixture(params=SCORED, ids=lambda metric: metric.name)
def metric(request: pytest.FixtureRequest) -> metrics.Metric:
    return request.param


class TestMetrics(MetricContract):
    @pytest.fixture(autouse=True)
    def choose(self, metric: metrics.Metric) -> None:
        type(self).metric = metric
