"""SloBench's numbers with intervals: over seeds and segments, as every other score has them."""

from __future__ import annotations

import numpy as np
import pytest
from support import fake_records as fake, slobench

from paretune.analysis.statistics.differences import row_variance
from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.scores import score_sums
from paretune.store.record import Predictions
from paretune_slovene.slobench import nltk_ngrams, official_scores
from paretune_slovene.slobench.official_scores import LABELS, TRANSLATION_SCORES, Answers, Key

SEEDS = [fake.translated(0.8, n=200, seed=seed) for seed in (1, 2, 3)]


@pytest.fixture(autouse=True)
def words_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data of NLTK is needed."""
    monkeypatch.setattr(official_scores, "load_tokeniser", lambda language: str.split)


def texts(predictions: Predictions) -> tuple[list[str], list[str]]:
    return [str(t) for t in predictions.prediction], [str(t) for t in predictions.label]


def test_estimates_are_the_scorers_means_over_seeds() -> None:
    cell_scores = official_scores.score_translations(SEEDS, "en")
    each = [official_scores.score_translations([seed], "en").intervals for seed in SEEDS]
    assert {"BLEU (avg)", "CHRF (avg)", "BLEU (corpus)"} <= set(cell_scores.intervals)
    assert set(cell_scores.intervals) | set(cell_scores.missing) == set(TRANSLATION_SCORES)
    for name, interval in cell_scores.intervals.items():
        assert interval.estimate == pytest.approx(
            sum(e[name].estimate for e in each) / 3, abs=1e-12
        )
        assert (interval.n_examples, interval.n_seeds, interval.highest) == (200, 3, 1)
        assert 0 < interval.low < interval.estimate < interval.high < 1
        assert 0 < interval.share_seeds < 1


@pytest.mark.wide
def test_the_corpus_score_varies_as_that_of_drawn_corpora() -> None:
    """The variance is that of whole corpora drawn and scored one by one."""
    seed = SEEDS[0]
    ours, theirs = ([line.split() for line in side] for side in texts(seed))
    table = np.array([nltk_ngrams.count_ngrams(*pair) for pair in zip(ours, theirs, strict=True)])
    score = score_sums([seed], [table], nltk_ngrams.from_sums)
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(300):
        chosen = rng.integers(200, size=200)
        drawn.append(slobench.bleu([ours[i] for i in chosen], [theirs[i] for i in chosen]))
    assert np.std(drawn) == pytest.approx(row_variance(score) ** 0.5, rel=0.15)


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
    intervals = official_scores.score_superglue(*make_answers(1))
    for interval in intervals.values():
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

    def average(seed: int) -> Interval:
        return official_scores.score_superglue(*make_answers(seed))["Average"]

    truth = np.mean([average(seed).estimate for seed in range(1000, 1400)])
    intervals = [average(seed) for seed in range(200)]
    coverage = np.mean([one.low <= truth <= one.high for one in intervals])
    assert coverage >= 0.93


def test_nothing_right_and_all_right_are_not_certain() -> None:
    _, right = make_answers(2)
    perfect = official_scores.score_superglue(right, right)
    for name in ("BoolQ Accuracy", "MultiRC F1a Score", "MultiRC EM", "Average"):
        assert perfect[name].estimate == perfect[name].high == 1 and perfect[name].low < 1
