"""Which learning rate a method continues with, and which a race drops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paretune import metrics
from paretune.analysis.statistics.differences import row_variance
from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import score_runs
from paretune.store.record import Record


def find_primary_metric(records: Iterable[Record]) -> str | None:
    """The name of the primary metric of one task's records; None where none of ours fits.

    A study file may name it; otherwise it is the one whose recorded value equals ``primary`` in
    every record. So a report needs no task definitions, which may have changed or gone since.
    """
    possible = [metric for metric in metrics.built_in() if metric.selectable]
    recorded = False
    for record in records:
        if record.run.task.metric is not None:
            return record.run.task.metric
        for scores in record.result.get("scores", {}).values():
            if scores and scores.get("primary") is not None:
                recorded = True
                primary = float(scores["primary"])
                values = [(metric, metric.read(scores)) for metric in possible]
                possible = [m for m, v in values if v is not None and abs(v - primary) < 1e-9]
    return possible[0].name if possible and recorded else None


def assume_primary_metric(records: Iterable[Record]) -> str:
    """As :func:`find_primary_metric`; accuracy where none of ours fits."""
    return find_primary_metric(records) or "accuracy"


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
    lowest = metrics.get(assume_primary_metric(tuning)).lowest
    trials, runs = _score_trials(tuning, lowest)
    table = tuple(trials.values())
    if not table:
        return RateSelection(None, undecided=False, edge=False, table=())
    ranked = sorted(table, key=lambda t: (-t.score, t.loss, t.rate))
    if raced:
        tried = Counter(record.run.learning_rate for record in tuning)
        most = max(tried[trial.rate] for trial in table)
        ranked.sort(key=lambda t: tried[t.rate] < most)
    best, *rest = ranked
    if best.failed == best.folds:
        return RateSelection(None, undecided=False, edge=False, table=table)
    undecided = False
    if rest:
        second = rest[0]
        pair = runs[best.rate], runs[second.rate]
        errors = _paired_errors(*pair, assume_primary_metric([*pair[0], *pair[1]]))
        gap = best.score - second.score
        # With nothing to pair it is clear only if every trial of the runner-up failed.
        undecided = gap <= 0 or second.failed < second.folds
        if gap > 0 and errors:
            undecided = gap < math.sqrt(sum(error**2 for error in errors)) / len(errors)
    edge = len(table) > 1 and best.rate in (table[0].rate, table[-1].rate)
    return RateSelection(best.rate, undecided, edge, table)


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
    metric = metrics.get(assume_primary_metric(tuning))
    trials, runs = _score_trials(tuning, metric.lowest)
    tried = frozenset(r for record in tuning if (r := record.run.learning_rate) is not None)
    if not trials:
        return tried
    best = min(trials.values(), key=lambda t: (-t.score, t.loss, t.rate))
    if best.failed == best.folds:
        return tried
    behind = set()
    for rate, trial in trials.items():
        folds = min(len(runs[best.rate]), len(runs[rate]))
        rows = sum(e**2 for e in _paired_errors(runs[best.rate], runs[rate], metric.name))
        between_runs = 2 * (SEED_POINTS * metric.highest / 100) ** 2
        error = math.sqrt(rows / folds**2 + between_runs / folds)
        if best.score - trial.score > errors * error:
            behind.add(rate)
    return tried - behind


def _score_trials(
    tuning: Sequence[Record], lowest: float
) -> tuple[dict[float, Trial], dict[float, list[Record]]]:
    """Each rate's trial, and its runs; by rate, rising. Runs that say nothing are left out."""
    by_rate: dict[float, list[tuple[Record, float, float]]] = {}
    for record in tuning:
        score = (lowest, -math.inf) if record.is_lost else record.selection_score
        if record.run.learning_rate is not None and score is not None:
            by_rate.setdefault(record.run.learning_rate, []).append((record, *score))
    trials = {
        rate: Trial(
            rate=rate,
            score=float(np.mean([score for _, score, _ in runs])),
            loss=float(np.mean([-minus_loss for *_, minus_loss in runs])),
            folds=len(runs),
            failed=sum(record.is_lost for record, *_ in runs),
        )
        for rate, runs in sorted(by_rate.items())
    }
    return trials, {rate: [record for record, *_ in runs] for rate, runs in by_rate.items()}


def _paired_errors(a: Sequence[Record], b: Sequence[Record], metric: str) -> list[float]:
    """Standard errors of the difference of two rates, on each part that both were tried on."""
    answers_a, answers_b = (
        {
            (-1 if r.run.outer is None else r.run.outer.position, r.run.fold): r.predictions[
                "selection"
            ]
            for r in runs
            if "selection" in r.predictions
        }
        for runs in (a, b)
    )
    errors = []
    for fold in sorted(answers_a.keys() & answers_b.keys()):
        pair = (score_runs([part[fold]], metric) for part in (answers_a, answers_b))
        errors.append(math.sqrt(row_variance(*pair)))
    return errors


def rate_intervals(tuning: Sequence[Record], metric: str) -> dict[float, Interval | None]:
    """The score of every rate over the rows of its selection parts, with one tuning seed.

    A run that diverged or did not fit has the metric's lowest score. None without stored answers,
    where every run of the rate failed, and where the lowest score is minus infinity.
    """
    lowest = metrics.get(metric).lowest
    by_rate: dict[float, list[Record]] = {}
    for record in tuning:
        if record.run.learning_rate is not None and record.outcome != "error":
            by_rate.setdefault(record.run.learning_rate, []).append(record)
    intervals: dict[float, Interval | None] = {}
    for rate, runs in by_rate.items():
        lost = sum(record.is_lost for record in runs)
        answers = [
            record.predictions["selection"]
            for record in runs
            if not record.is_lost and "selection" in record.predictions
        ]
        intervals[rate] = None
        if answers and len(answers) + lost == len(runs) and not (lost and math.isinf(lowest)):
            parts = [confidence_interval(score_runs([part], metric)) for part in answers]
            estimate = (sum(part.estimate for part in parts) + lost * lowest) / len(runs)
            half = math.hypot(*((part.high - part.low) / 2 for part in parts)) / len(runs)
            intervals[rate] = replace(
                parts[0],
                estimate=estimate,
                low=max(lowest, estimate - half),
                high=min(parts[0].highest, estimate + half),
                n_examples=sum(part.n_examples for part in parts),
            )
    return intervals
