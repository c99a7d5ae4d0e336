"""Which learning rate a method continues with, and which a race drops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

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


RateEdge = Literal["", "lowest", "highest"]
"""Whether a rate is the lowest or highest of several that were tried."""


@dataclass(frozen=True)
class Trial:
    """One learning rate that was tried.

    Attributes:
        score: mean primary score on the selection parts.
        loss: mean loss there.
        runs: those that say something about the rate, one for each part.
    """

    rate: float
    score: float
    loss: float
    runs: tuple[Record, ...] = field(repr=False)

    @property
    def failed(self) -> int:
        """Runs that diverged or did not fit."""
        return sum(record.is_lost for record in self.runs)

    def interval(self, metric: str) -> Interval | None:
        """The score over the rows of the selection parts, with one tuning seed.

        A run that failed has the metric's lowest score. None without stored answers, where every
        run failed, and where the lowest score is minus infinity.
        """
        lowest, failed, count = metrics.get(metric).lowest, self.failed, len(self.runs)
        scored = [record for record in self.runs if not record.is_lost]
        answers = [r.predictions["selection"] for r in scored if "selection" in r.predictions]
        if not answers or len(answers) + failed < count or (failed and math.isinf(lowest)):
            return None
        parts = [confidence_interval(score_runs([part], metric)) for part in answers]
        estimate = (sum(part.estimate for part in parts) + failed * lowest) / count
        half = math.hypot(*((part.high - part.low) / 2 for part in parts)) / count
        return replace(
            parts[0],
            estimate=estimate,
            low=max(lowest, estimate - half),
            high=min(parts[0].highest, estimate + half),
            n_examples=sum(part.n_examples for part in parts),
        )


@dataclass(frozen=True)
class RateSelection:
    """The selected learning rate and all trials.

    Attributes:
        rate: None if nothing was tried, or if every trial diverged or did not fit.
        undecided: the best two differ by less than one paired standard error, or not at all.
        edge: the best is the lowest or highest of several, not all alike: better may lie outside.
        table: the trials, by rate.
    """

    rate: float | None = None
    undecided: bool = False
    edge: RateEdge = ""
    table: tuple[Trial, ...] = ()


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
    table = _score_trials(tuning, metrics.get(assume_primary_metric(tuning)).lowest)
    if not table:
        return RateSelection()
    ranked = sorted(table, key=_rank)
    if raced:
        tried = Counter(record.run.learning_rate for record in tuning)
        most = max(tried[trial.rate] for trial in table)
        ranked.sort(key=lambda t: tried[t.rate] < most)
    best, *rest = ranked
    if best.failed == len(best.runs):
        return RateSelection(table=table)
    undecided = False
    if rest:
        second = rest[0]
        errors = _paired_errors(best, second, assume_primary_metric([*best.runs, *second.runs]))
        gap = best.score - second.score
        # With nothing to pair it is clear only if every trial of the runner-up failed.
        undecided = gap <= 0 or second.failed < len(second.runs)
        if gap > 0 and errors:
            undecided = gap < math.sqrt(sum(error**2 for error in errors)) / len(errors)
    ends: dict[float, RateEdge] = {table[-1].rate: "highest", table[0].rate: "lowest"}
    edge = ends.get(best.rate, "") if best.score > min(trial.score for trial in table) else ""
    return RateSelection(best.rate, undecided, edge, table)


def find_rates_in_play(tuning: Sequence[Record]) -> frozenset[float]:
    """The rates that are not clearly behind the best of them on the folds so far.

    A rate is dropped if its mean score is lower than the best's by more than ``RATE_GAP_ERRORS``
    standard errors of their paired difference::

        se^2 = sum of v_f / F^2 + 2 sigma^2 / F

    with ``v_f`` the paired variance over the rows of fold f and sigma = ``SEED_POINTS`` for what
    single runs differ by. Real trials at several limits: docs/how-it-works/racing.md.

    Args:
        tuning: ended trials of one cell: the same folds for each rate.
    """
    metric = metrics.get(assume_primary_metric(tuning))
    trials = _score_trials(tuning, metric.lowest)
    tried = frozenset(r for record in tuning if (r := record.run.learning_rate) is not None)
    if not trials:
        return tried
    best = min(trials, key=_rank)
    if best.failed == len(best.runs):
        return tried
    behind = set()
    for trial in trials:
        folds = min(len(best.runs), len(trial.runs))
        rows = sum(e**2 for e in _paired_errors(best, trial, metric.name))
        between_runs = 2 * (SEED_POINTS * metric.highest / 100) ** 2
        error = math.sqrt(rows / folds**2 + between_runs / folds)
        if best.score - trial.score > RATE_GAP_ERRORS * error:
            behind.add(trial.rate)
    return tried - behind


def _rank(trial: Trial) -> tuple[float, float, float]:
    return -trial.score, trial.loss, trial.rate


def _score_trials(tuning: Sequence[Record], lowest: float) -> tuple[Trial, ...]:
    """The trial of each rate, rising. Runs that say nothing are left out."""
    by_rate: dict[float, list[tuple[Record, float, float]]] = {}
    for record in tuning:
        score = (lowest, -math.inf) if record.is_lost else record.selection_score
        if record.run.learning_rate is not None and score is not None:
            by_rate.setdefault(record.run.learning_rate, []).append((record, *score))
    trials = []
    for rate, scored in sorted(by_rate.items()):
        runs, scores, minus_losses = zip(*scored, strict=True)
        loss = float(np.mean(np.negative(minus_losses)))
        trials.append(Trial(rate, float(np.mean(scores)), loss, runs))
    return tuple(trials)


def _paired_errors(a: Trial, b: Trial, metric: str) -> list[float]:
    """Standard errors of the difference of two rates, on each part that both were tried on."""
    answers_a, answers_b = (
        {
            (-1 if r.run.outer is None else r.run.outer.position, r.run.fold): r.predictions[
                "selection"
            ]
            for r in trial.runs
            if "selection" in r.predictions
        }
        for trial in (a, b)
    )
    errors = []
    for fold in sorted(answers_a.keys() & answers_b.keys()):
        pair = (score_runs([part[fold]], metric) for part in (answers_a, answers_b))
        errors.append(math.sqrt(row_variance(*pair)))
    return errors
