"""BLEU, chrF and TER by sacreBLEU, with signatures, and what a bootstrap needs of each segment.

A corpus score is a function of sums over segments (matched n-grams, lengths, edits). Those
statistics are kept by segment, so that the score of any resampled corpus costs one sum:

>>> bleu, chrf, ter = statistics(["a b c d"], ["a b c d"])
>>> round(bleu.score(), 1), bleu.signature.split("|")[0]
(100.0, 'nrefs:1')

Seeds of one method often give a segment the same translation, so a segment is counted once and
remembered. TER's edits are counted by :mod:`paretune.metrics.ter_edits`, which has sacreBLEU's
numbers sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paretune.metrics.ter_edits import count_edits

Name = Literal["bleu", "chrf", "ter"]
_SEGMENTS = 1 << 17
_REFERENCES = 1 << 13


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
    return (
        statistic("bleu", hypotheses, references),
        statistic("chrf", hypotheses, references),
        statistic("ter", hypotheses, references),
    )


def statistic(name: Name, hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
    """One of the three of :func:`statistics`.

    Raises:
        ValueError: different numbers of lines, or none.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(references)} references")
    metric = _metric(name)
    pairs = zip(hypotheses, references, strict=True)
    table = np.array([_segment(name, *pair) for pair in pairs], dtype=float)
    title = metric._compute_score_from_stats(table.sum(axis=0).tolist()).name
    return Statistics(title, signature(name), name != "ter", table, metric)


def scores(hypotheses: Sequence[str], references: Sequence[str], metric: str) -> dict[str, float]:
    """BLEU, chrF and TER of a corpus, 0 to 100; ``primary`` is that of ``metric``."""
    bleu, chrf, ter = (one.score() for one in statistics(hypotheses, references))
    found = {"bleu": bleu, "chrf": chrf, "ter": ter}
    return {**found, "primary": found[metric], "n": len(references)}


def signatures() -> dict[str, str]:
    """How :func:`scores` are computed, by metric: sacreBLEU's signatures."""
    return {"bleu": signature("bleu"), "chrf": signature("chrf"), "ter": signature("ter")}


@cache
def signature(name: Name) -> str:
    """How the metric is computed, as sacreBLEU writes it, its version included."""
    return str(_metric(name).get_signature())


@cache
def _metric(name: Name) -> Any:
    from sacrebleu.metrics import BLEU, CHRF, TER

    # force: otherwise it warns in its log of lines that end in " .", which may be as they should.
    metric = {"bleu": lambda: BLEU(force=True), "chrf": CHRF, "ter": TER}[name]()
    metric.num_refs = 1  # what its signature says
    return metric


@lru_cache(maxsize=_SEGMENTS)
def _segment(name: Name, hypothesis: str, reference: str) -> tuple[float, ...]:
    metric, theirs = _metric(name), _reference(name, reference)
    ours = metric._preprocess_segment(hypothesis)
    if name == "ter":
        words = theirs["ref_words"][0]
        return count_edits(ours.split(), words), len(words)
    return tuple(metric._compute_segment_statistics(ours, theirs))


@lru_cache(maxsize=_REFERENCES)
def _reference(name: Name, reference: str) -> Any:
    metric = _metric(name)
    return metric._extract_reference_info([metric._preprocess_segment(reference)])
