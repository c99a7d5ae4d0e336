"""SloBench's own numbers of a cell's translations, from the stored texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean

from paretune.metrics.slobench import Translation, translation
from paretune.store.record import Predictions

NAMES = ("BLEU (avg)", "METEOR (avg)", "CHRF (avg)", "BLEU (corpus)", "CHRF (corpus)")
"""As its table has them; BERTScore, which needs a model, stands before them there."""


def numbers(predictions: Sequence[Predictions], language: str) -> Translation:
    """The means over seeds, 0 to 1; what one of them lacks, and why, is lacking.

    Args:
        predictions: one for each seed, at least one.
        language: into which was translated, ``sl`` or ``en``.
    """
    found = [
        _numbers(
            tuple(str(text) for text in one.prediction),
            tuple(str(text) for text in one.label),
            language,
        )
        for one in predictions
    ]
    missing = {name: why for one in found for name, why in one.missing.items()}
    scores = {
        name: fmean(one.scores[name] for one in found)
        for name in NAMES
        if all(name in one.scores for one in found)
    }
    return Translation(scores, missing, found[0].data)


@lru_cache(maxsize=512)
def _numbers(
    translations: tuple[str, ...], references: tuple[str, ...], language: str
) -> Translation:
    return translation(translations, references, language)
