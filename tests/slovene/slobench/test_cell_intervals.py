"""SloBench's numbers with intervals: over seeds and segments, as every other score has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import fake_translations, slobench

from paretune.analysis.statistics.differences import row_variance
from paretune.analysis.statistics.scores import score_sums
from paretune.errors import MissingDependencyError
from paretune.store.record import Predictions
from paretune_slovene.slobench import nltk_ngrams, official_scores
from paretune_slovene.slobench import report_table as intervals

SEEDS = [fake_translations.translated(0.8, n=200, seed=seed) for seed in (1, 2, 3)]


@pytest.fixture(autouse=True)
def words_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data of NLTK is needed, and nothing comes from or stays in the cache."""
    monkeypatch.setattr(official_scores, "load_tokeniser", lambda language: str.split)
    monkeypatch.setattr(intervals, "_score_texts", official_scores.score_segments)


def texts(predictions: Predictions) -> tuple[list[str], list[str]]:
    return [str(t) for t in predictions.prediction], [str(t) for t in predictions.label]


def test_estimates_are_the_scorers_means_over_seeds() -> None:
    cell_scores = intervals.score_cell(SEEDS, "en")
    each = [slobench.score_translation(*texts(seed), "en").scores for seed in SEEDS]
    assert {"BLEU (avg)", "CHRF (avg)", "BLEU (corpus)"} <= set(cell_scores.intervals)
    assert set(cell_scores.intervals) | set(cell_scores.missing) == set(intervals.NAMES)
    for name, interval in cell_scores.intervals.items():
        assert interval.estimate == pytest.approx(sum(e[name] for e in each) / 3, abs=1e-12)
        assert (interval.n_examples, interval.n_seeds, interval.highest) == (200, 3, 1)
        assert 0 < interval.low < interval.estimate < interval.high < 1
        assert 0 < interval.share_seeds < 1


@pytest.mark.wide
def test_the_corpus_score_varies_as_that_of_drawn_corpora() -> None:
    """The variance is that of whole corpora drawn and scored one by one."""
    one = SEEDS[0]
    ours, theirs = ([line.split() for line in side] for side in texts(one))
    table = np.array([nltk_ngrams.count_ngrams(*pair) for pair in zip(ours, theirs, strict=True)])
    score = score_sums([one], [table], nltk_ngrams.from_sums)
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(300):
        chosen = rng.integers(200, size=200)
        drawn.append(slobench.bleu([ours[i] for i in chosen], [theirs[i] for i in chosen]))
    assert np.std(drawn) == pytest.approx(row_variance(score) ** 0.5, rel=0.15)


def test_what_cannot_be_computed_has_no_interval_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(language: str) -> Any:
        raise MissingDependencyError("no punkt.", remedy="Get it.")

    monkeypatch.setattr(official_scores, "load_tokeniser", missing)
    cell_scores = intervals.score_cell(SEEDS, "en")
    assert set(cell_scores.intervals) == {"CHRF (avg)"}
    assert cell_scores.missing["BLEU (corpus)"] == "no punkt. Get it."
