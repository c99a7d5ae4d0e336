"""Baselines without a model, and the constant answer where there is nothing to learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paretune import methods, objectives
from paretune.methods import baselines
from paretune.methods.core.options import MethodOptions
from paretune.objectives.example import Example


def examples(texts: list[str], labels: list[float]) -> list[Example]:
    return [
        Example(f"train:{i}", ((text, None),), label, f"line {i}", features=(float(i),))
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


@pytest.mark.parametrize("fit", [baselines.fit_tfidf, baselines.fit_gradient_boosting])
def test_one_label_in_train_is_the_constant_answer(fit: Any) -> None:
    train = examples(["the cat", "a dog", "some ice"], [1, 1, 1])
    scores = fit(train, 3, MethodOptions(), 0)(train)
    assert scores.shape == (3, 3)
    assert (scores.argmax(1) == 1).all()
    expected = baselines.fit_majority(train, 3, MethodOptions(), 0)(train)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("labels", [[0, 1, 1], [0.5, 1.5, 2.5]])
def test_texts_without_a_word_are_the_constant_answer(labels: list[float]) -> None:
    train = examples(["?", "!", "x"], labels)
    scores, expected = (
        fit(train, 2, MethodOptions(), 0)(train)
        for fit in (baselines.fit_tfidf, baselines.fit_majority)
    )
    np.testing.assert_array_equal(scores, expected)


def test_sources_are_copied_as_they_are() -> None:
    pairs = [
        Example(source, ((source, None),), None, "train.tsv line 1", target=target)
        for source, target in ((" Ime: Ana ", "Name: Ana"), ("12 %", "12%"))
    ]
    answer = baselines.fit_copy_source(pairs, 0, MethodOptions(), seed=1)
    assert answer(pairs) == [" Ime: Ana ", "12 %"]
    assert answer([]) == []


def test_they_serve_the_tasks_that_name_them_alone() -> None:
    method = methods.get("copy_source")
    assert methods.refusal(method, objectives.get("translation"), tabular=False) == ""
    refusal = methods.refusal(method, objectives.get("classification"), tabular=False)
    assert "not classification" in refusal
