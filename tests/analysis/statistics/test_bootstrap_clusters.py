"""Answers that depend on one another are left out as a whole, in scores and in differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import fake_records as fake
from support.fake_records import difference

from paretune import metrics
from paretune.analysis.learning_rates import find_primary_metric, select_learning_rate
from paretune.analysis.statistics.differences import row_variance
from paretune.analysis.statistics.intervals import score_interval
from paretune.analysis.statistics.scores import score_runs
from paretune.errors import StoreError
from paretune.reporting.text.formatting import format_basis, format_units
from paretune.store.encoding import decode_predictions, encode_predictions
from paretune.store.record import Predictions

f1a, exact_match, f1a_em = (metrics.get(name).compute for name in ("f1a", "em", "f1a_em"))


def passages(
    skill: float = 0.0, *, count: int = 15, questions: int = 8, seed: int = 0, data: int = 0
) -> Predictions:
    """Four answers to each question; whole passages, and questions in them, are easy or hard."""
    facts = np.random.default_rng([1, data])
    rng = np.random.default_rng([2, seed, data])
    n = count * questions * 4
    passage = np.repeat(np.arange(count), questions * 4)
    question = np.repeat(np.arange(count * questions), 4)
    ease = facts.normal(1.2 + skill, 1.0, count)[passage]
    ease = ease + facts.normal(0, 0.7, count * questions)[question]
    label = facts.integers(0, 2, n)
    right = rng.random(n) < 1 / (1 + np.exp(-ease))
    answers = fake.predictions(label, np.where(right, label, 1 - label))
    return replace(
        answers, cluster=tuple(int(p) for p in passage), question=tuple(int(q) for q in question)
    )


def width(answers: Predictions, metric: str) -> float:
    interval = score_interval([answers], metric)  # type: ignore[arg-type]
    return interval.high - interval.low


@pytest.mark.parametrize("metric", ["f1a_em", "accuracy", "macro_f1"])
def test_clusters_make_intervals_wider_than_answers_would(metric: str) -> None:
    answers = passages()
    by_question, by_answer = replace(answers, cluster=()), replace(answers, cluster=(), question=())
    assert width(answers, metric) > 1.3 * width(by_question, metric)
    if metric != "f1a_em":  # without questions that is another score
        assert width(by_question, metric) > 1.05 * width(by_answer, metric)


@pytest.mark.thorough
def test_the_variance_is_that_of_drawing_whole_passages() -> None:
    answers = passages(count=30)
    label, answer = np.array(answers.label), np.array(answers.prediction)
    cluster, question = np.array(answers.cluster), np.array(answers.question)
    rng = np.random.default_rng(0)
    slow = []
    for _ in range(400):
        # A passage that is drawn twice is two passages with questions of their own.
        drawn = [np.flatnonzero(cluster == c) for c in rng.integers(0, 30, 30)]
        rows = np.concatenate(drawn)
        question_ids = np.concatenate([question[r] + 1000 * i for i, r in enumerate(drawn)])
        slow.append(f1a_em(list(label[rows]), list(answer[rows]), list(question_ids)))
    assert row_variance(score_runs([answers], "f1a_em")) ** 0.5 == pytest.approx(
        np.std(slow), rel=0.12
    )


def test_differences_are_paired_by_passage() -> None:
    """Both find the same passages hard, so the difference is surer than the scores."""
    low, high = [passages(seed=1)], [passages(1.0, seed=2)]
    contrast = difference(high, low, "f1a_em")
    alone = [score_interval(one, "f1a_em") for one in (low, high)]
    assert contrast.estimate == pytest.approx(alone[1].estimate - alone[0].estimate)
    assert contrast.high - contrast.low < np.hypot(*[i.high - i.low for i in alone])
    loose = [[replace(one[0], cluster=())] for one in (high, low)]
    careless = difference(*loose, "f1a_em")
    assert careless.n_clusters == 0 and contrast.n_clusters == 15
    assert contrast.estimate == careless.estimate


def test_clustered_and_loose_answers_are_not_compared() -> None:
    with pytest.raises(StoreError, match="in 15 and in 480 groups"):
        difference([passages()], [replace(passages(seed=3), cluster=(), question=())], "accuracy")


def test_what_an_interval_stands_on_is_told() -> None:
    interval = score_interval([passages(), passages(seed=1)], "f1a_em")
    assert format_basis(interval) == "480 answers to 120 questions in 15 groups, 2 seeds"
    assert format_units(interval) == "480 in 15"
    spans = score_interval([replace(passages(), question=())], "accuracy")
    assert format_basis(spans) == "480 examples in 15 groups, 1 seed"
    plain = score_interval([fake.answers(0.6)], "accuracy")
    assert format_basis(plain) == "60 examples, 1 seed" and format_units(plain) == "60"


def test_stored_answers_name_what_belongs_together() -> None:
    answers = passages(count=2, questions=2)
    again = decode_predictions(encode_predictions({"test": answers}), "here")
    assert again == {"test": answers}
    plain = fake.answers(0.6)
    content = encode_predictions({"test": plain})
    assert b"cluster" not in content and b"question" not in content
    assert decode_predictions(content, "here") == {"test": plain}
    with pytest.raises(ValueError, match="different lengths"):
        encode_predictions({"test": replace(answers, cluster=(0,))})


def test_the_metric_is_known_from_the_records_and_rates_are_chosen_by_it() -> None:
    study = fake.study()
    tuning = []
    for rate, skill in ((1e-4, -1.0), (1e-3, 2.0), (1e-2, 0.0)):
        answers = passages(skill, seed=int(rate * 1e4))
        compared = (answers.label, answers.prediction, answers.question)
        scores_of = {
            "f1a": f1a(*compared),
            "em": exact_match(*compared),
            "primary": f1a_em(*compared),
        }
        run = fake.make_run(study, "tune", "lora", 0, learning_rate=rate)
        run = run.model_copy(update={"task": run.task.model_copy(update={"metric": None})})
        scores = {"scores": {"selection": {**scores_of, "loss": 1.0 - skill / 10}}}
        tuning.append(fake.record(run, {"selection": answers}, result=scores))
    assert find_primary_metric(tuning) == "f1a_em"
    choice = select_learning_rate(tuning)
    assert (choice.rate, choice.undecided, choice.edge) == (1e-3, False, "")
