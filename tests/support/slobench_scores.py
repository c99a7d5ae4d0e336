"""SloBench's official scores of whole texts, from the segment scores that the package has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretune_slovene.slobench.nltk_ngrams import count_ngrams, from_sums
from paretune_slovene.slobench.official_scores import CORPUS_BLEU, score_segments


@dataclass(frozen=True)
class TranslationScores:
    scores: dict[str, float]
    missing: dict[str, str]
    data: tuple[str, ...]


def score_translation(
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str,
    *,
    wordnet: Path | None = None,
) -> TranslationScores:
    """Official scores by name; NLTK's chrF of a corpus is the mean over its sentences."""
    segments = score_segments(hypotheses, references, language, wordnet=wordnet)
    scores = {
        name: float(from_sums(column.sum(axis=0)) if name == CORPUS_BLEU else column.mean())
        for name, column in segments.columns.items()
    }
    missing = dict(segments.missing)
    if "CHRF (avg)" in scores:
        scores["CHRF (corpus)"] = scores["CHRF (avg)"]
    else:
        missing["CHRF (corpus)"] = missing["CHRF (avg)"]
    return TranslationScores(scores, missing, segments.data)


def bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 over all sentences together, in 0..1; of one sentence: lists of one."""
    counts = [count_ngrams(*pair) for pair in zip(hypotheses, references, strict=True)]
    return float(from_sums(np.array(counts).sum(axis=0))) if counts else 0.0
