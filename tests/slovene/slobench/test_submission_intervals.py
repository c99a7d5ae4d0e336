"""Intervals of a submission: SloBench's own numbers in the middle, and of the right width."""

from __future__ import annotations

import numpy as np
import pytest

from paretune_slovene.slobench import official_scores, submission_intervals
from paretune_slovene.slobench.official_scores import LABELS, Answers, Key


def make_answers(seed: int, passages: int = 12) -> tuple[dict[str, Answers], dict[str, Answers]]:
    """Answers to all six tasks, about seven of ten right, and the references."""
    rng = np.random.default_rng(seed)
    answers: dict[str, Answers] = {}
    right: dict[str, Answers] = {}
    for task, labels in LABELS.items():
        keys: list[Key] = list(range(80))
        if task == "MultiRC":
            keys = [(p, p * 3 + q, p * 12 + q * 4 + a) for p in range(passages)
                    for q in range(3) for a in range(4)]  # fmt: skip
        reference_indices = rng.integers(0, len(labels), len(keys))
        answer_indices = np.where(
            rng.random(len(keys)) < 0.7, reference_indices, rng.integers(0, len(labels), len(keys))
        )
        right[task] = {key: labels[i] for key, i in zip(keys, reference_indices, strict=True)}
        answers[task] = {key: labels[i] for key, i in zip(keys, answer_indices, strict=True)}
    return answers, right


def test_every_number_of_superglue_has_its_own_interval() -> None:
    answers, right = make_answers(1)
    scores, intervals = (
        official_scores.score_superglue(answers, right),
        submission_intervals.superglue_intervals(answers, right),
    )
    assert scores.keys() == intervals.keys()
    for name, interval in intervals.items():
        assert interval.estimate == pytest.approx(scores[name], abs=1e-9), name
        assert 0 <= interval.low < interval.estimate < interval.high <= 1
    boolq = intervals["BoolQ Accuracy"]
    p = boolq.estimate
    assert boolq.high - p == pytest.approx(1.99 * (p * (1 - p) / 80) ** 0.5, rel=0.06)
    multirc = intervals["MultiRC Average"]
    assert (multirc.n_examples, multirc.n_questions, multirc.n_clusters) == (144, 36, 12)
    widths = [i.high - i.low for n, i in intervals.items() if n.endswith(("Accuracy", "Average"))]
    assert intervals["Average"].high - intervals["Average"].low < min(widths[:-1])


@pytest.mark.wide
def test_the_averages_interval_holds_the_truth() -> None:
    """Other examples of the same kind, 200 times: expected are 95 %."""
    truth = np.mean(
        [
            official_scores.score_superglue(*make_answers(seed))["Average"]
            for seed in range(1000, 1400)
        ]
    )
    intervals = [
        submission_intervals.superglue_intervals(*make_answers(seed))["Average"]
        for seed in range(200)
    ]
    coverage = np.mean([one.low <= truth <= one.high for one in intervals])
    assert coverage >= 0.93


def test_nothing_right_and_all_right_are_not_certain() -> None:
    _, right = make_answers(2)
    perfect = submission_intervals.superglue_intervals(right, right)
    for name in ("BoolQ Accuracy", "MultiRC F1a Score", "MultiRC EM", "Average"):
        assert perfect[name].estimate == perfect[name].high == 1 and perfect[name].low < 1


def test_texts_have_sacrebleus_names() -> None:
    lines = ["ena dva tri štiri pet", "šest sedem osem devet deset", "ena dva tri osem"]
    intervals = submission_intervals.sacrebleu_intervals(["ena dva tri štiri", *lines[1:]], lines)
    assert list(intervals) == ["BLEU", "chrF2", "TER"]
    assert all(one.n_examples == 3 and one.low < one.high for one in intervals.values())
    assert submission_intervals.mean_interval([0.5, 0.7, 0.9]).estimate == pytest.approx(0.7)
