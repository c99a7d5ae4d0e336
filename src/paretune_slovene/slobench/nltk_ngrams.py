"""BLEU and chrF as NLTK 3.6.6 defines them, which is what SloBench shows.

Neither is sacreBLEU's (:mod:`paretune.metrics.translation`): these count NLTK's words, smooth by
0.1, and average chrF over sentences, where a sentence shorter than n characters has 0 for order n.

- BLEU: Papineni et al., 2002, with smoothing 1 of Chen and Cherry, 2014 ("A Systematic Comparison
  of Smoothing Techniques for Sentence-Level BLEU"): an order without a match counts 0.1 of one.
- chrF: Popović, 2015 ("chrF: character n-gram F-score for automatic MT evaluation"), beta 3,
  character orders 1 to 6, white space left out.

BLEU of a corpus is a function of sums over its sentences, and so is that of any corpus drawn from
them: :func:`count_ngrams` is what is to be summed, :func:`from_sums` the score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paretune_slovene.metrics.nltk_words import SENTENCE_END, find_sentence_ends

ORDERS = 4
SMOOTHING = 0.1
CHARACTERS = 6
BETA = 3.0
NO_MATCH = 1e-16
"""NLTK's F-score of an order in which nothing matches or a sentence is too short."""

Words = Sequence[str]


def count_ngrams(hypothesis: Words, reference: Words) -> tuple[int, ...]:
    """Count words of a sentence and its reference, matched and all n-grams of four orders."""
    matched, totals = [], []
    for order in range(ORDERS):
        ours, theirs = (_grams(tuple(w), order + 1) for w in (hypothesis, reference))
        matched.append(_common(ours, theirs))
        # NLTK counts 1 where a sentence is too short for the order, also in a corpus.
        totals.append(max(1, ours.total()))
    return len(hypothesis), len(reference), *matched, *totals


def from_sums(sums: ArrayLike) -> NDArray[Any]:
    """BLEU-4 for each leading index; the last axis is that of :func:`count_ngrams`, summed."""
    table = np.asarray(sums, dtype=float)
    length, reference_length = table[..., 0], table[..., 1]
    matched, totals = table[..., 2 : 2 + ORDERS], table[..., 2 + ORDERS :]
    ratio = np.divide(reference_length, length, out=np.ones(length.shape), where=length > 0)
    brevity = np.where(length > reference_length, 0.0, 1 - ratio)
    logs = np.log(np.where(matched > 0, matched, SMOOTHING) / totals)
    return np.where(matched[..., 0] > 0, np.exp(brevity + logs.mean(axis=-1)), 0.0)


def chrf(hypothesis: str, reference: str) -> float:
    """chrF3 of one sentence, in 0..1; white space does not count."""
    ours, theirs = "".join(hypothesis.split()), "".join(reference.split())
    return math.fsum(_f(ours, theirs, n) for n in range(1, CHARACTERS + 1)) / CHARACTERS


def _f(hypothesis: str, reference: str, order: int) -> float:
    ours, theirs = _grams(hypothesis, order), _grams(reference, order)
    matched = _common(ours, theirs)
    if not matched:
        return NO_MATCH
    precision, recall = matched / ours.total(), matched / theirs.total()
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _grams(items: str | tuple[str, ...], order: int) -> Counter[Hashable]:
    return Counter([items[i : i + order] for i in range(len(items) - order + 1)])


def _common(ours: Counter[Hashable], theirs: Counter[Hashable]) -> int:
    # Twice as fast as (ours & theirs).total().
    return sum(min(count, theirs[gram]) for gram, count in ours.items() if gram in theirs)


def crashes_slobench(text: str) -> bool:
    """Whether NLTK 3.6.6 fails on this line.

    It reads the word before a possible end of a sentence, and here is none: ``! Ne.``
    """
    return any(not before for _, before in find_sentence_ends(text.strip(), SENTENCE_END))


def make_readable(text: str) -> str:
    """The line with the smallest change after which NLTK 3.6.6 can read it; others unchanged.

    A mark before a space is joined to the next word: ``!Ne`` has the words and characters of
    ``! Ne``, since NLTK splits at ``!`` and ``?`` anyway. If that does not help, the mark is
    removed.
    """
    while crashes_slobench(text):
        mark, rest = text.strip()[0], text.strip()[1:].lstrip()
        joined = mark + rest
        text = rest if mark == "." or crashes_slobench(joined) else joined
    return text
