"""BLEU, chrF and TER as sacreBLEU computes them, from statistics of each segment.

A corpus score is a function of sums over segments: matched n-grams, lengths, edits. The counts of a
segment are sacreBLEU's, with its defaults (13a tokens and exponential smoothing for BLEU, chrF2),
and are cached, since several runs of one method often translate a segment alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np

from paretune.metrics.metric import Array, Metric, Questions, Runs, Values, divide

SACREBLEU_NAMES = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}
"""sacreBLEU's names of them, in front of their signatures."""
Name = Literal["bleu", "chrf", "ter"]
_CACHED_SEGMENTS = 1 << 17
_CACHED_REFERENCES = 1 << 13
_CACHED_CORPORA = 512


def corpus_score(
    name: Name, references: Values, predictions: Values, questions: Questions = ()
) -> float:
    """The corpus score, 0 to 100 (TER may exceed it), by sacreBLEU's own arithmetic."""
    sums = _corpus_table(name, _texts(predictions), _texts(references)).sum(axis=0).tolist()
    # sacreBLEU's own bootstrap does the same; its public functions take texts only.
    return float(_sacrebleu(name)._compute_score_from_stats(sums).score)


def segment_statistics(
    name: Name, references: Values, predictions: Runs, questions: Questions = ()
) -> Array:
    """SacreBLEU's statistics of each segment; (runs, segments, columns)."""
    expected = _texts(references)
    return np.stack([_corpus_table(name, _texts(run), expected) for run in predictions])


@cache
def signature(name: Name) -> str:
    """SacreBLEU's signature, with its version."""
    return str(_sacrebleu(name).get_signature())


def _texts(values: Values) -> tuple[str, ...]:
    return tuple(map(str, values))


@lru_cache(maxsize=_CACHED_CORPORA)
def _corpus_table(name: Name, predictions: tuple[str, ...], references: tuple[str, ...]) -> Array:
    pairs = zip(predictions, references, strict=True)
    table = np.array([_segment(name, *pair) for pair in pairs], dtype=float)
    table.flags.writeable = False  # it is cached
    return table


@lru_cache(maxsize=_CACHED_SEGMENTS)
def _segment(name: Name, prediction: str, reference: str) -> tuple[float, ...]:
    metric, info = _sacrebleu(name), _reference(name, reference)
    text = metric._preprocess_segment(prediction)
    return tuple(metric._compute_segment_statistics(text, info))


@lru_cache(maxsize=_CACHED_REFERENCES)
def _reference(name: Name, reference: str) -> Any:
    metric = _sacrebleu(name)
    return metric._extract_reference_info([metric._preprocess_segment(reference)])


@cache
def _sacrebleu(name: Name) -> Any:
    from sacrebleu.metrics import BLEU, CHRF, TER

    # force: otherwise it warns of lines that end in " .", which may be meant so.
    metric = {"bleu": lambda: BLEU(force=True), "chrf": CHRF, "ter": TER}[name]()
    metric.num_refs = 1  # what its signature says
    return metric


def _bleu_from_sums(sums: Array) -> Array:
    """Geometric mean of n-gram precisions, with exponential smoothing, times the brevity penalty.

    Columns: length, reference length, matched n-grams and all n-grams of four orders.
    """
    sums = np.asarray(sums, dtype=float)
    length, expected = sums[..., 0], sums[..., 1]
    matched, counted = sums[..., 2:6], sums[..., 6:]
    missed = matched == 0
    # The k-th order without a match counts as half a match, as a quarter, an eighth ...
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), matched)
    # An order that no segment is long enough for has no precision, and the score is 0.
    there = counted > 0
    logs = np.log(divide(smoothed, counted, otherwise=1.0))
    ratio = divide(expected, length, otherwise=1.0)
    score = 100 * np.exp(np.minimum(0.0, 1 - ratio) + logs.mean(axis=-1))
    return np.asarray(np.where(there.all(axis=-1) & matched.any(axis=-1), score, 0.0))


def _chrf_from_sums(sums: Array) -> Array:
    """F2 of the means of precision and recall over the orders that both sides have.

    Columns: n-grams of the prediction, of the reference, and matched, for each of six orders.
    """
    sums = np.asarray(sums, dtype=float)
    predicted, expected, matched = (sums[..., k::3] for k in range(3))
    there = (predicted > 0) & (expected > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision, recall = (
        divide(matched, np.where(there, of, 0)).sum(axis=-1) / orders
        for of in (predicted, expected)
    )
    return 100 * divide(5 * precision * recall, 4 * precision + recall)


def _metric(
    name: Name, title: str, description: str, from_sums: Callable[[Array], Array], **facts: Any
) -> Metric:
    return Metric(
        name=name,
        title=title,
        description=description,
        target_type="text",
        exact=partial(corpus_score, name),
        statistics=partial(segment_statistics, name),
        from_sums=from_sums,
        signature=partial(signature, name),
        **{"highest": 100.0, **facts},
    )


BLEU = _metric("bleu", "BLEU", "n-gram precision, 0 to 100 (sacreBLEU)", _bleu_from_sums)
CHRF = _metric("chrf", "chrF", "character n-gram F2, 0 to 100 (sacreBLEU)", _chrf_from_sums)
TER = _metric(
    "ter",
    "TER",
    "edits per 100 words of the reference (sacreBLEU)",
    lambda sums: 100 * divide(sums[..., 0], sums[..., 1], otherwise=sums[..., 0] > 0),
    highest=math.inf,
    greater_is_better=False,
    selectable=False,
)
METRICS = (BLEU, CHRF, TER)
