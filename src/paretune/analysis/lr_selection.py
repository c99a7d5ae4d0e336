"""Which learning rate a method continues with, and whether that was clear."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretune import metrics
from paretune.analysis.primary_metric import DEFAULT, find_primary_metric
from paretune.analysis.statistics.bootstrap_score import bootstrap_score, bootstrap_variance
from paretune.store.record import Predictions, Record

SEED_POINTS = 2.0
"""Standard deviation of a score between seeds that is assumed where one seed is all there is."""
RATE_GAP_ERRORS = 0.8
"""How many standard errors behind the best a rate is dropped in a race."""


@dataclass(frozen=True)
class Trial:
    """One learning rate that was tried.

    Attributes:
        score: mean primary score on the selection parts.
        failed: runs that diverged or did not fit.
    """

    rate: float
    score: float
    loss: float
    folds: int
    failed: int


@dataclass(frozen=True)
class RateSelection:
    """The selected learning rate and all trials.

    Attributes:
        rate: None if nothing was tried, or if every trial diverged or did not fit.
        undecided: the best two differ by less than one paired standard error, or not at all.
        edge: the best is the lowest or highest of several, so a better one may lie outside.
    """

    rate: float | None
    undecided: bool
    edge: bool
    table: tuple[Trial, ...]


def select_learning_rate(tuning: Sequence[Record], *, raced: bool = False) -> RateSelection:
    """The rate with the highest mean primary score on the selection parts.

    A trial that diverged or did not fit counts with the metric's lowest score; one that stopped
    with an unexpected error says nothing about its rate and does not count. Ties go to the lower
    mean selection loss, then to the smaller rate.

    Args:
        tuning: ended trials of one cell.
        raced: rates that were tried on fewer folds than others were dropped
            (:func:`find_rates_in_play`) and are not selected.
    """
    lowest = metrics.get(find_primary_metric(tuning) or DEFAULT).lowest
    by_rate = _group_by_rate(tuning, lowest)
    table = tuple(_score_trial(rate, by_rate[rate], lowest) for rate in sorted(by_rate))
    if not table:
        return RateSelection(None, undecided=False, edge=False, table=())
    ranked = sorted(table, key=lambda t: (-t.score, t.loss, t.rate))
    if raced:
        tried = Counter(record.run.learning_rate for record in tuning)
        most = max(tried[trial.rate] for trial in table)
        ranked.sort(key=lambda t: tried[t.rate] < most)
    best = ranked[0]
    if best.failed == best.folds:
        return RateSelection(None, undecided=False, edge=False, table=table)
    return RateSelection(
        rate=best.rate,
        undecided=len(ranked) > 1
        and _is_undecided(best, ranked[1], by_rate[best.rate], by_rate[ranked[1].rate]),
        edge=len(table) > 1 and best.rate in (table[0].rate, table[-1].rate),
        table=table,
    )


def find_rates_in_play(
    tuning: Sequence[Record], errors: float = RATE_GAP_ERRORS
) -> frozenset[float]:
    """The rates that are not clearly behind the best of them on the folds so far.

    A rate is dropped if its mean score is lower than the best's by more than ``errors`` standard
    errors of their paired difference::

        se^2 = sum of v_f / F^2 + 2 sigma^2 / F

    with ``v_f`` the paired variance over the rows of fold f and sigma = ``SEED_POINTS`` for what
    single runs differ by. Real trials at several ``errors``: docs/how-it-works/racing.md.

    Args:
        tuning: ended trials of one cell: the same folds for each rate.
    """
    metric = metrics.get(find_primary_metric(tuning) or DEFAULT)
    by_rate = _group_by_rate(tuning, metric.lowest)
    tried = frozenset(r for record in tuning if (r := record.run.learning_rate) is not None)
    if not by_rate:
        return tried
    trials = {rate: _score_trial(rate, runs, metric.lowest) for rate, runs in by_rate.items()}
    best = min(trials.values(), key=lambda t: (-t.score, t.loss, t.rate))
    if best.failed == best.folds:
        return tried
    behind = {
        trial.rate
        for trial in trials.values()
        if best.score - trial.score
        > errors * _gap_error(by_rate[best.rate], by_rate[trial.rate], metric.name, metric.highest)
    }
    return tried - behind


def _gap_error(
    best: Sequence[Record], other: Sequence[Record], metric: str, highest: float
) -> float:
    """Standard error of the difference of two mean scores, of rows and single runs."""
    folds = min(len(best), len(other))
    a, b = _group_by_fold(best), _group_by_fold(other)
    rows = sum(_paired_error(a[fold], b[fold], metric) ** 2 for fold in a.keys() & b.keys())
    runs = 2 * (SEED_POINTS * highest / 100) ** 2
    return math.sqrt(rows / folds**2 + runs / folds)


def _group_by_rate(tuning: Sequence[Record], lowest: float) -> dict[float, list[Record]]:
    by_rate: dict[float, list[Record]] = {}
    for record in tuning:
        if record.run.learning_rate is not None and _selection_score(record, lowest) is not None:
            by_rate.setdefault(record.run.learning_rate, []).append(record)
    return by_rate


def _selection_score(record: Record, lowest: float) -> tuple[float, float] | None:
    """Primary score and loss on the selection part; None if the run says nothing of its rate."""
    if record.is_lost:
        return lowest, math.inf
    if record.selection_score is None:
        return None
    score, minus_loss = record.selection_score
    return score, -minus_loss


def _score_trial(rate: float, records: Sequence[Record], lowest: float) -> Trial:
    values = [value for r in records if (value := _selection_score(r, lowest)) is not None]
    return Trial(
        rate=rate,
        score=float(np.mean([score for score, _ in values])),
        loss=float(np.mean([loss for _, loss in values])),
        folds=len(values),
        failed=sum(record.is_lost for record in records),
    )


def _is_undecided(
    best: Trial, second: Trial, best_runs: Sequence[Record], second_runs: Sequence[Record]
) -> bool:
    gap = best.score - second.score
    if gap <= 0:
        return True
    a, b = _group_by_fold(best_runs), _group_by_fold(second_runs)
    folds = sorted(a.keys() & b.keys())
    if not folds:
        # Nothing to pair: clear only if every trial of the runner-up failed.
        return second.failed < second.folds
    metric = find_primary_metric([*best_runs, *second_runs]) or DEFAULT
    errors = [_paired_error(a[fold], b[fold], metric) for fold in folds]
    return gap < math.sqrt(sum(error**2 for error in errors)) / len(folds)


def _group_by_fold(records: Sequence[Record]) -> dict[tuple[int, int], Predictions]:
    """By outer fold (-1: none) and part of train."""
    return {
        (
            -1 if record.run.outer is None else record.run.outer.position,
            record.run.fold,
        ): record.predictions["selection"]
        for record in records
        if "selection" in record.predictions
    }


def _paired_error(a: Predictions, b: Predictions, metric: str) -> float:
    """Standard error of the difference of two runs on the same selection part."""
    one, other = bootstrap_score([a], metric), bootstrap_score([b], metric)
    return math.sqrt(bootstrap_variance(one, one.draws - other.draws))
