"""Entity F1 is seqeval's, whose numbers stand here; token accuracy counts words."""

from __future__ import annotations

import random

import pytest

from paretune import metrics
from paretune.metrics.metric import Value
from paretune.testing import MetricContract

TAGS = ("O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def draw() -> tuple[list[Value], list[list[Value]]]:
    draws = random.Random(2)  # noqa: S311
    rows = [[draws.choice(TAGS) for _ in range(draws.randint(1, 9))] for _ in range(24)]
    runs = [
        [[tag if draws.random() < 0.6 else draws.choice(TAGS) for tag in row] for row in rows]
        for _ in range(3)
    ]
    return [" ".join(row) for row in rows], [[" ".join(row) for row in run] for run in runs]


class TestEntityF1(MetricContract):
    metric = metrics.get("entity_f1")

    def references(self) -> list[Value]:
        return draw()[0]

    def predictions(self) -> list[list[Value]]:
        return draw()[1]


class TestConllF1(TestEntityF1):
    metric = metrics.get("conll_f1")


class TestTokenAccuracy(TestEntityF1):
    metric = metrics.get("token_accuracy")


# seqeval 1.2.2: f1_score(..., mode="strict", scheme=IOB2), and f1_score(...)
SEQEVAL = {
    "entity_f1": [0.5238095238095238, 0.6741573033707865, 0.6987951807228915],
    "conll_f1": [0.5517241379310345, 0.624113475177305, 0.6857142857142857],
}


@pytest.mark.parametrize("name", SEQEVAL)
def test_it_is_the_score_of_seqeval(name: str) -> None:
    references, runs = draw()
    scores = [metrics.get(name).compute(references, run) for run in runs]
    assert scores == pytest.approx(SEQEVAL[name], rel=0, abs=1e-12)
