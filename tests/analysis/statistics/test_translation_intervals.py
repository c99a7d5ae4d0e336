"""Scores of texts from sums: sacreBLEU's own, whole and resampled, at every border."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER
from support import fake_records as fake
from support.fake_records import predictions

from paretune import metrics
from paretune.analysis.outcomes import answers_are_constant
from paretune.analysis.statistics.differences import row_variance
from paretune.analysis.statistics.intervals import confidence_interval, score_interval
from paretune.analysis.statistics.scores import score_runs
from paretune.metrics import translation

METRICS = {"bleu": BLEU(force=True), "chrf": CHRF(), "ter": TER()}
REFERENCES = (
    "The file was saved in the folder.",
    "Open the menu and choose a colour.",
    "Yes",
    "",
    "No other window is open now.",
    "Press the key twice, then wait a moment .",
)
TRANSLATIONS = {
    "good": (
        "The file was saved in a folder.",
        "Open the menu, choose a colour and",
        "Yes",
        "a",
        "No window is open now other.",
        "Press a key twice and wait.",
    ),
    "nothing": ("",) * 6,
    "one word": ("the",) * 6,
    "two words": ("of the",) * 6,
    "foreign": ("Datoteka je shranjena.", "Ne", "Da", "", "Odprto je", "Počakajte."),
    "long": tuple(f"{text} and {text} again and again" for text in REFERENCES),
    "perfect": REFERENCES,
}


@pytest.mark.parametrize("texts", TRANSLATIONS)
@pytest.mark.parametrize("name", METRICS)
def test_resampled_scores_are_sacrebleus(name: str, texts: str) -> None:
    outputs, metric = TRANSLATIONS[texts], metrics.get(name)
    (table,) = metric.statistics(REFERENCES, [outputs], ())
    rng = np.random.default_rng(3)
    drawn = [np.arange(6), *(rng.integers(6, size=6) for _ in range(60)), [3] * 6, [2, 3] * 3]
    ours = metric.from_sums(np.stack([table[list(d)].sum(axis=0) for d in drawn]))
    for value, chosen in zip(ours, drawn, strict=True):
        hypotheses, references = ([t[i] for i in chosen] for t in (outputs, REFERENCES))
        assert value == pytest.approx(
            METRICS[name].corpus_score(hypotheses, [references]).score, abs=1e-9
        )
    assert metric.compute(REFERENCES, outputs) == pytest.approx(ours[0])


def test_the_variance_is_that_of_drawn_corpora() -> None:
    part, rng = fake.translated(0.8, n=200), np.random.default_rng(5)
    (table,) = metrics.get("bleu").statistics(part.label, [part.prediction], ())
    sums = np.stack([table[rng.integers(200, size=200)].sum(axis=0) for _ in range(400)])
    drawn = metrics.get("bleu").from_sums(sums)
    assert row_variance(score_runs([part], "bleu")) ** 0.5 == pytest.approx(np.std(drawn), rel=0.12)


def test_an_interval_of_texts_goes_to_a_hundred() -> None:
    interval = confidence_interval(
        score_runs([predictions(REFERENCES, TRANSLATIONS["good"])], "bleu")
    )
    assert interval.estimate == pytest.approx(
        BLEU(force=True).corpus_score(list(TRANSLATIONS["good"]), [list(REFERENCES)]).score
    )
    assert 0 <= interval.low < interval.estimate < interval.high <= 100
    assert interval.highest == 100 and interval.estimate > 1


@pytest.mark.parametrize(("texts", "value"), [("nothing", 0.0), ("perfect", 100.0)])
def test_scores_that_no_draw_moves_have_no_width(texts: str, value: float) -> None:
    chosen = [i for i in range(6) if REFERENCES[i].count(" ") > 3] * 3
    hypotheses, references = (
        tuple(t[i] for i in chosen) for t in (TRANSLATIONS[texts], REFERENCES)
    )
    interval = confidence_interval(score_runs([predictions(references, hypotheses)] * 2, "bleu"))
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((value, value, value))
    assert interval.share_seeds == 0


def test_texts_are_read_once_however_many_rows_are_left_out() -> None:
    """What makes many cells take seconds: values are of sums, not of texts."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(500)])
    references = tuple(" ".join(rng.choice(words, 12)) for _ in range(200))
    hypotheses = tuple(" ".join(rng.permutation(text.split())) for text in references)
    before = translation._corpus_table.cache_info().misses
    for name in METRICS:
        for _ in range(2):
            assert score_runs([predictions(references, hypotheses)], name).values.shape == (1, 200)
    assert translation._corpus_table.cache_info().misses == before + len(METRICS)


def test_segments_of_one_cluster_are_drawn_together() -> None:
    alone = predictions(REFERENCES * 20, TRANSLATIONS["good"] * 20)
    drawn = replace(alone, cluster=tuple(i // 6 for i in range(120)))
    interval = score_interval([drawn], "bleu")
    assert interval.n_clusters == 20
    # Every cluster is the same six segments, so drawing clusters moves nothing.
    high = score_interval([alone], "bleu").high
    assert interval.high - interval.low < 1e-6 < high - interval.high


@pytest.mark.parametrize(("texts", "same"), [("nothing", True), ("good", False)])
def test_one_translation_for_everything_is_collapsed(texts: str, same: bool) -> None:
    assert answers_are_constant(TRANSLATIONS[texts], REFERENCES) is same
