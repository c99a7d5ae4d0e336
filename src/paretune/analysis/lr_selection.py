"""Which learning rate a method goes on with, and whether that was clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretune import metrics
from paretune.analysis.primary_metric import DEFAULT, find_primary_metric
from paretune.analysis.statistics.score_interval import bootstrap_score, bootstrap_variance
from paretune.store.record import UNSCORED_RESULTS, Predictions, Record


@dataclass(frozen=True)
class Trial:
    """One rate on trial: mean selection score and loss over ``folds``, ``failed`` of them lost."""

    rate: float
    score: float
    loss: float
    folds: int
    failed: int


@dataclass(frozen=True)
class RateSelection:
    """The chosen rate and every trial, smallest rate first.

    ``rate`` is None where nothing was tried, or where every trial diverged or did not fit.
    ``undecided``: the best two differ by less than one paired standard error, or by nothing.
    ``edge``: the best is the lowest or highest of several, so a better one may lie beyond.
    """

    rate: float | None
    undecided: bool
    edge: bool
    table: tuple[Trial, ...]


def select_learning_rate(tuning: Sequence[Record]) -> RateSelection:
    """The rate with the highest mean primary score on the selection parts.

    A trial that diverged or did not fit counts as the lowest score there is; one that stopped
    with an unexpected error says nothing of its rate and does not count. Ties go to the lower
    mean selection loss, then to the smaller rate.
    """
    worst = metrics.get(find_primary_metric(tuning) or DEFAULT).lowest
    by_rate: dict[float, list[Record]] = {}
    for record in tuning:
        if record.run.learning_rate is not None and _selection(record, worst) is not None:
            by_rate.setdefault(record.run.learning_rate, []).append(record)
    table = tuple(_score_trial(rate, by_rate[rate], worst) for rate in sorted(by_rate))
    if not table:
        return RateSelection(None, undecided=False, edge=False, table=())
    ranked = sorted(table, key=lambda t: (-t.score, t.loss, t.rate))
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


def _selection(record: Record, worst: float) -> tuple[float, float] | None:
    """Primary score and loss on the selection part; None if the run says nothing of its rate."""
    if record.outcome in UNSCORED_RESULTS:
        return worst, math.inf
    scores = record.result.get("scores", {}).get("selection")
    if not scores:
        return None
    loss = scores.get("loss")
    return float(scores["primary"]), math.inf if loss is None else float(loss)


def _score_trial(rate: float, records: Sequence[Record], worst: float) -> Trial:
    values = [value for r in records if (value := _selection(r, worst)) is not None]
    return Trial(
        rate=rate,
        score=float(np.mean([score for score, _ in values])),
        loss=float(np.mean([loss for _, loss in values])),
        folds=len(values),
        failed=sum(record.outcome in UNSCORED_RESULTS for record in records),
    )


def _is_undecided(
    best: Trial, second: Trial, best_runs: Sequence[Record], second_runs: Sequence[Record]
) -> bool:
    gap = best.score - second.score
    if gap <= 0:
        return True
    a, b = _by_fold(best_runs), _by_fold(second_runs)
    folds = sorted(a.keys() & b.keys())
    if not folds:
        # Nothing to pair: clear only where every trial of the runner-up was lost.
        return second.failed < second.folds
    metric = find_primary_metric([*best_runs, *second_runs]) or DEFAULT
    errors = [_paired_error(a[fold], b[fold], metric) for fold in folds]
    return gap < math.sqrt(sum(error**2 for error in errors)) / len(folds)


def _by_fold(records: Sequence[Record]) -> dict[int, Predictions]:
    return {
        record.run.fold: record.predictions["selection"]
        for record in records
        if "selection" in record.predictions
    }


def _paired_error(a: Predictions, b: Predictions, metric: str) -> float:
    """Standard error of the difference of two answers to the same selection part."""
    one, other = bootstrap_score([a], metric), bootstrap_score([b], metric)
    return math.sqrt(bootstrap_variance(one, one.draws - other.draws))
