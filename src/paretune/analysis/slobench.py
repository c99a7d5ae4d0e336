"""SloBench's own numbers of a cell's translations, with their intervals, from the stored texts.

As everywhere, what is resampled are segments (:mod:`paretune.analysis.interval`): an average over
segments is a ratio of two sums, and the corpus BLEU of a draw is that of its summed counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from paretune.analysis.interval import Interval, interval_of, scored_means, scored_sums
from paretune.metrics.ngrams import from_sums
from paretune.metrics.slobench import CORPUS, Segments, segments
from paretune.store.record import Predictions

NAMES = ("BLEU (avg)", "METEOR (avg)", "CHRF (avg)", CORPUS)
"""As its table has them; BERTScore, which needs a model, stands before them there, and behind them
"CHRF (corpus)", which is "CHRF (avg)" once more."""


@dataclass(frozen=True)
class Numbers:
    """``intervals`` by name, 0 to 1; of what is lacking, why (``missing``); computed from what."""

    intervals: dict[str, Interval]
    missing: dict[str, str]
    data: tuple[str, ...]


def numbers(predictions: Sequence[Predictions], language: str) -> Numbers:
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
    return Numbers(intervals, missing, found[0].data)


def _interval(predictions: Sequence[Predictions], found: Sequence[Segments], name: str) -> Interval:
    columns = [one.columns[name] for one in found]
    if name == CORPUS:
        return interval_of(scored_sums(predictions, columns, from_sums))
    return interval_of(scored_means(predictions, columns))


@lru_cache(maxsize=512)
def _segments(
    translations: tuple[str, ...], references: tuple[str, ...], language: str
) -> Segments:
    return segments(translations, references, language)
