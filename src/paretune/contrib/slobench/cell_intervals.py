"""SloBench's own numbers of a cell's translations, with their intervals, from the stored texts.

As everywhere, what is resampled are segments (:mod:`paretune.analysis.statistics.score_interval`):
an average over
segments is a ratio of two sums, and the corpus BLEU of a draw is that of its summed counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from paretune.analysis.statistics.score_interval import (
    Interval,
    bootstrap_means,
    bootstrap_sums,
    confidence_interval,
)
from paretune.contrib.slobench.nltk_ngrams import from_sums
from paretune.contrib.slobench.official_scores import CORPUS_BLEU, SegmentScores, score_segments
from paretune.store.record import Predictions

NAMES = ("BLEU (avg)", "METEOR (avg)", "CHRF (avg)", CORPUS_BLEU)
"""As its table has them; BERTScore, which needs a model, stands before them there, and behind them
"CHRF (corpus)", which is "CHRF (avg)" once more."""


@dataclass(frozen=True)
class CellScores:
    """``intervals`` by name, 0 to 1; of what is lacking, why (``missing``); computed from what."""

    intervals: dict[str, Interval]
    missing: dict[str, str]
    data: tuple[str, ...]


def score_cell(predictions: Sequence[Predictions], language: str) -> CellScores:
    """Means over seeds; what one of them lacks is lacking.

    Args:
        predictions: one for each seed, at least one.
        language: into which was translated, ``sl`` or ``en``.
    """
    found = [
        _segments(
            tuple(str(text) for text in one.prediction),
            tuple(str(text) for text in one.label),
            language,
        )
        for one in predictions
    ]
    missing = {name: why for one in found for name, why in one.missing.items()}
    intervals = {name: _interval(predictions, found, name) for name in NAMES if name not in missing}
    return CellScores(intervals, missing, found[0].data)


def _interval(
    predictions: Sequence[Predictions], found: Sequence[SegmentScores], name: str
) -> Interval:
    columns = [one.columns[name] for one in found]
    if name == CORPUS_BLEU:
        return confidence_interval(bootstrap_sums(predictions, columns, from_sums))
    return confidence_interval(bootstrap_means(predictions, columns))


@lru_cache(maxsize=512)
def _segments(
    translations: tuple[str, ...], references: tuple[str, ...], language: str
) -> SegmentScores:
    return score_segments(translations, references, language)
