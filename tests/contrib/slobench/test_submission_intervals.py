"""Intervals of a submission: SloBench's own numbers in the middle, and of the right width."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.contrib.slobench import official_scores, submission_intervals
from paretune.contrib.slobench.official_scores import LABELS, Answers, Key


def made(seed: int, passages: int = 12) -> tuple[dict[str, Answers], dict[str, Answers]]:
    """Answers to all six tasks, about seven of ten right, and the references."""
    rng = np.random.default_rng(seed)
    given: dict[str, Answers] = {}
    right: dict[str, Answers] = {}
    for task, labels in LABELS.items():
        keys: list[Key] = list(range(80))
        if task == "MultiRC":
            keys = [(p, p * 3 + q, p * 12 + q * 4 + a) for p in range(passages)
                    for q in range(3) for a in range(4)]  # fmt: skip
        asked = rng.integers(0, len(labels), len(keys))
        said = np.where(rng.random(len(keys)) < 0.7, asked, rng.integers(0, len(labels), len(keys)))
        right[task] = {key: labels[i] for key, i in zip(keys, asked, strict=True)}
        given[task] = {key: labels[i] for key, i in zip(keys, said, strict=True)}
    return given, right


def test_every_number_of_superglue_has_its_own_interval() -> None:
    given, right = made(1)
    scores, intervals = (
        official_scores.score_superglue(given, right),
        submission_intervals.superglue_intervals(given, right),
    )
    assert scores.keys() == intervals.keys()
    for name, found in intervals.items():
        assert found.estimate == pytest.approx(scores[name], abs=1e-9), name
        assert 0 <= found.low < found.estimate < found.high <= 1
    boolq = intervals["BoolQ Accuracy"]
    p = boolq.estimate
    assert boolq.high - p == pytest.approx(1.99 * (p * (1 - p) / 80) ** 0.5, rel=0.06)
    multirc = intervals["MultiRC Average"]
    assert (multirc.n_examples, multirc.n_questions, multirc.n_clusters) == (144, 36, 12)
    widths = [i.high - i.low for n, i in intervals.items() if n.endswith(("Accuracy", "Average"))]
    assert intervals["Average"].high - intervals["Average"].low < min(widths[:-1])


def test_the_averages_interval_holds_the_truth() -> None:
    """Other examples of the same kind, 200 times: expected are 95 %."""
    truth = np.mean(
        [official_scores.score_superglue(*made(seed))["Average"] for seed in range(1000, 1400)]
    )
    found = [
        submission_intervals.superglue_intervals(*made(seed))["Average"] for seed in range(200)
    ]
    held = np.mean([one.low <= truth <= one.high for one in found])
    assert held >= 0.93


def test_nothing_right_and_all_right_are_not_certain() -> None:
    _, right = made(2)
    perfect = submission_intervals.superglue_intervals(right, right)
    for name in ("BoolQ Accuracy", "MultiRC F1a Score", "MultiRC EM", "Average"):
        assert perfect[name].estimate == perfect[name].high == 1 and perfect[name].low < 1


def test_texts_have_sacrebleus_names() -> None:
    lines = ["ena dva tri štiri pet", "šest sedem osem devet deset", "ena dva tri osem"]
    found = submission_intervals.sacrebleu_intervals(["ena dva tri štiri", *lines[1:]], lines)
    assert list(found) == ["BLEU", "chrF2", "TER"]
    assert all(one.n_examples == 3 and one.low < one.high for one in found.values())
    assert submission_intervals.mean_interval([0.5, 0.7, 0.9]).estimate == pytest.approx(0.7)
