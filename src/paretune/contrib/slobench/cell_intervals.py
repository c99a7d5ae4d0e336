"""SloBench's official scores of a cell's stored translations, with intervals.

Segments are resampled, as everywhere (:mod:`paretune.analysis.statistics.score_interval`): an
average over segments is a ratio of two sums, and the corpus BLEU of a draw that of its summed
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from paretune.analysis.statistics.bootstrap_score import bootstrap_means, bootstrap_sums
from paretune.analysis.statistics.score_interval import Interval, confidence_interval
from paretune.contrib.slobench.nltk_ngrams import from_sums
from paretune.contrib.slobench.official_scores import CORPUS_BLEU, SegmentScores, score_segments
from paretune.store.record import Predictions

NAMES = ("BLEU (avg)", "METEOR (avg)", "CHRF (avg)", CORPUS_BLEU)
"""In SloBench's order. Its table also has BERTScore, which needs a model, before them, and
"CHRF (corpus)", which equals "CHRF (avg)", after them."""


@dataclass(frozen=True)
class CellScores:
    """Official scores of one cell.

    Attributes:
        intervals: by name, 0 to 1.
        missing: the reason for each score that could not be computed.
        data: the sources used: tokeniser, stems, synonyms.
    """

    intervals: dict[str, Interval]
    missing: dict[str, str]
    data: tuple[str, ...]


def score_cell(predictions: Sequence[Predictions], language: str) -> CellScores:
    """Means over seeds; a score that one seed lacks is missing.

    Args:
        predictions: of each seed, at least one.
        language: of the translations, ``sl`` or ``en``.
    """
    seeds = [
        _score_texts(
            tuple(str(text) for text in seed.prediction),
            tuple(str(text) for text in seed.label),
            language,
        )
        for seed in predictions
    ]
    missing = {name: reason for seed in seeds for name, reason in seed.missing.items()}
    intervals = {
        name: _compute_interval(predictions, [seed.columns[name] for seed in seeds], name)
        for name in NAMES
        if name not in missing
    }
    return CellScores(intervals, missing, seeds[0].data)


def _compute_interval(
    predictions: Sequence[Predictions], columns: Sequence[NDArray[Any]], name: str
) -> Interval:
    if name == CORPUS_BLEU:
        return confidence_interval(bootstrap_sums(predictions, columns, from_sums))
    return confidence_interval(bootstrap_means(predictions, columns))


@lru_cache(maxsize=512)
def _score_texts(
    translations: tuple[str, ...], references: tuple[str, ...], language: str
) -> SegmentScores:
    return score_segments(translations, references, language)
