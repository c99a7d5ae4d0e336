"""Exact match, token F1 and ROUGE: worked out by hand, and against rouge-score itself."""

from __future__ import annotations

import random
import sys
from typing import ClassVar

import pytest

from paretune import metrics
from paretune.errors import MissingDependencyError
from paretune.metrics import Metric, answers
from paretune.metrics.answers import EXACT_MATCH, TOKEN_F1, is_same_number, normalise_answer
from paretune.metrics.metric import Value
from paretune.testing import MetricContract

TEXTS = ["The cat sat on the mat.", "a dog", "3.5 apples and pears", "Češnje so zrele", "no", "-"]


def test_answers_are_normalised_as_squad_does() -> None:
    assert normalise_answer("The  Cat, (an) animal!") == "cat animal"
    assert normalise_answer("Češnja; Anton") == "češnja anton"


def test_token_f1_counts_each_word_once() -> None:
    # Two of three predicted words, two of two expected: 2 * 2 / (3 + 2).
    assert TOKEN_F1.compute(["red red"], ["red red car"], ()) == pytest.approx(0.8)
    assert TOKEN_F1.compute(["red", "the"], ["blue", "a"], ()) == 0.5  # nothing is like nothing
    assert EXACT_MATCH.compute(["Da.", "ne"], ["da", "da"], ()) == 0.5


def test_rouge_is_that_of_its_package_where_texts_are_ascii() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    draw = random.Random(0)  # noqa: S311
    for _ in range(30):
        pair = [" ".join(draw.choices(["a", "b-c,", "D_e", "12", "word"], k=6)) for _ in range(2)]
        public = scorer.score(*pair)
        for metric, kind in zip(answers.METRICS[3:], ("rouge1", "rouge2", "rougeL"), strict=True):
            score = metric.compute([pair[0]], [pair[1]], ())
            assert score == pytest.approx(public[kind].fmeasure, abs=1e-12)


def test_rouge_does_not_cut_words_at_carons() -> None:
    unigrams = metrics.get("rouge1")
    assert unigrams.compute(["češnja"], ["bešnja"], ()) == 0.0
    assert unigrams.compute(["rdeča češnja"], ["Rdeča češnja!"], ()) == 1.0
    assert unigrams.signature is not None and "unicode" in unigrams.signature()


def test_rouge_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    answers._rouge_scorer.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"pip install \"rouge-score\""):
        answers.METRICS[-1].compute(["a"], ["a"])
    answers._rouge_scorer.cache_clear()


def test_different_numbers_of_texts_are_refused() -> None:
    for metric in (EXACT_MATCH, TOKEN_F1, *answers.METRICS[3:]):
        with pytest.raises(ValueError, match="2 references but 1 predictions"):
            metric.compute(["a", "b"], ["a"], ())


class AnswerMetric(MetricContract):
    def references(self) -> list[Value]:
        return [*TEXTS, *TEXTS[:3]]


class TestExactMatch(AnswerMetric):
    metric: ClassVar[Metric] = EXACT_MATCH


class TestTokenF1(AnswerMetric):
    metric: ClassVar[Metric] = TOKEN_F1


class TestRougeL(AnswerMetric):
    metric: ClassVar[Metric] = metrics.get("rouge_l")


class TestRouge2(AnswerMetric):
    metric: ClassVar[Metric] = metrics.get("rouge2")

    def references(self) -> list[Value]:
        pairs = [f"{left} {right}" for left in "abcdef" for right in "ghij"]
        return list[Value](pairs)  # of one word there is no pair to match


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("So she has 3 + 4 = 7 left.", "7", 1.0),
        ("The answer is 1,200.00", "#### 1200", 1.0),
        ("7 apples, then 8", "7", 0.0),
        ("none", "0", 0.0),
    ],
)
def test_the_last_number_is_compared(prediction: str, reference: str, right: float) -> None:
    assert is_same_number(prediction, reference) == right
