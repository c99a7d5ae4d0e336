"""BLEU, chrF and TER by sacreBLEU, with signatures, and what a bootstrap needs of each segment.

A corpus score is a function of sums over segments (matched n-grams, lengths, edits). Those
statistics are kept by segment, so that the score of any resampled corpus costs one sum:

>>> bleu, chrf, ter = statistics(["a b c d"], ["a b c d"])
>>> round(bleu.score(), 1), bleu.signature.split("|")[0]
(100.0, 'nrefs:1')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Statistics:
    """One metric's sufficient statistics.

    Attributes:
        name: ``BLEU``, ``chrF2`` or ``TER``, as sacreBLEU calls it.
        signature: how it was computed, sacreBLEU's version included.
        higher_is_better: false for TER, which counts edits.
        table: (segments, statistics); a corpus is their sum.
    """

    name: str
    signature: str
    higher_is_better: bool
    table: NDArray[np.float64]
    metric: Any

    def score(self, segments: ArrayLike | None = None) -> float:
        """The corpus score in 0..100 (TER may exceed it).

        Args:
            segments: indices of the segments that make up the corpus, with repetitions; None: all.
        """
        chosen = self.table if segments is None else self.table[np.asarray(segments)]
        # The way sacreBLEU's own bootstrap goes; its public functions take texts only. The tests
        # hold it against them.
        return float(self.metric._compute_score_from_stats(chosen.sum(axis=0).tolist()).score)


def statistics(
    hypotheses: Sequence[str], references: Sequence[str]
) -> tuple[Statistics, Statistics, Statistics]:
    """Statistics of BLEU (13a tokens, exponential smoothing), chrF2 and TER, sacreBLEU's defaults.

    Args:
        hypotheses: translations, not tokenised.
        references: one for each.

    Raises:
        ValueError: different numbers of lines, or none.
    """
    from sacrebleu.metrics import BLEU, CHRF, TER

    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    # force: otherwise it warns in its log of lines that end in " .", which may be as they should.
    bleu, chrf, ter = (
        _of(metric, hypotheses, references) for metric in (BLEU(force=True), CHRF(), TER())
    )
    return bleu, chrf, ter


def _of(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
    table = np.asarray(metric._extract_corpus_statistics(hypotheses, [references]), dtype=float)
    whole = metric._compute_score_from_stats(table.sum(axis=0).tolist())
    return Statistics(whole.name, str(metric.get_signature()), whole.name != "TER", table, metric)


def scores(hypotheses: Sequence[str], references: Sequence[str], metric: str) -> dict[str, float]:
    """BLEU, chrF and TER of a corpus, 0 to 100; ``primary`` is that of ``metric``."""
    bleu, chrf, ter = (one.score() for one in statistics(hypotheses, references))
    found = {"bleu": bleu, "chrf": chrf, "ter": ter}
    return {**found, "primary": found[metric], "n": len(references)}


def signatures() -> dict[str, str]:
    """How :func:`scores` are computed, by metric: sacreBLEU's signatures."""
    return {
        name: one.signature
        for name, one in zip(("bleu", "chrf", "ter"), statistics(["a"], ["a"]), strict=True)
    }
