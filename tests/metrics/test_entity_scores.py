"""Entity F1 is seqeval's, whose numbers stand here; token accuracy counts words."""

from __future__ import annotations

import random

import pytest

from paretune import metrics
from paretune.metrics.metric import Value
from paretune.metrics.tags import find_entities
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


@pytest.mark.parametrize(
    ("tags", "strict", "lenient"),
    [
        ("O I-X I-X", "", "X 1 3"),
        ("B-X I-Y I-Y", "X 0 1", "X 0 1, Y 1 3"),
        ("B-X B-X I-X O", "X 0 1, X 1 3", "X 0 1, X 1 3"),
        ("B-X-Y I-X-Y", "X-Y 0 2", "X-Y 0 2"),
        ("O O", "", ""),
    ],
)
def test_an_entity_ends_where_its_type_does(tags: str, strict: str, lenient: str) -> None:
    for expected, mode in ((strict, True), (lenient, False)):
        found = sorted(find_entities(tags, strict=mode), key=lambda entity: entity[1:])
        assert ", ".join(f"{kind} {begin} {end}" for kind, begin, end in found) == expected


def test_each_type_has_its_score() -> None:
    assert metrics.get("entity_f1").by_class is not None
    by_type = metrics.get("entity_f1").by_class(["B-X O B-Y"], ["B-X O B-Z"])
    assert by_type == {"X": 1.0, "Y": 0.0, "Z": 0.0}
