"""Which learning rate a method continues with, and what fewer trials would have given.

The expected best score as a function of the number of learning rates tried is that of Dodge,
Gururangan, Card, Schwartz and Smith (2019, "Show Your Work", arXiv:1909.03004): if n rates are
drawn from those that were tried, whose scores in order are v_1 <= ... <= v_N, the expected best of
them is::

    sum_i v_i ((i / N)^n - ((i - 1) / N)^n)

Here rates are not drawn but cover a range that suits the method, the same number for each. So the
formula says what fewer trials of that range would have given on average, and nothing about n > N.
Scores are of the selection parts, with the tuning seed: the best of them is optimistically biased,
and is not the test score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from paretune import metrics
from paretune.analysis.statistics.intervals import LEVEL, Interval
from paretune.analysis.statistics.scores import bootstrap_score, bootstrap_variance
from paretune.metrics import Array
from paretune.store.record import Predictions, Record


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
    metric = metrics.get(assume_primary_metric(tuning))
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
    metric = assume_primary_metric([*best_runs, *second_runs])
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


@dataclass(frozen=True)
class ExpectedBest:
    """The expected best score of some trials.

    Attributes:
        expected: over the examples of the selection parts, with one seed.
        seconds: of training; None if not measured. Runs beside others count with their duration.
    """

    trials: int
    expected: Interval
    seconds: float | None


@dataclass(frozen=True)
class RateScore:
    """The score of one learning rate that was tried.

    Attributes:
        draws: (DRAWS,) bootstrap draws of the mean, or (1,) if every fold failed.
    """

    estimate: float
    draws: Array
    examples: int

    def interval(self, metric: str) -> Interval | None:
        """Over the examples of the selection parts, one seed; None if every fold failed."""
        if not self.examples:
            return None
        return _interval(np.array([self.estimate]), self.draws[None], 1, self.examples, metric)


def score_rates(tuning: Sequence[Record], metric: str) -> dict[float, RateScore | None]:
    """The score of every rate, in the order of the records; None without stored answers.

    A run that diverged or did not fit has the metric's lowest score; None if that is minus
    infinity.
    """
    by_rate: dict[float, list[Record]] = {}
    for record in tuning:
        if record.run.learning_rate is not None and record.outcome != "error":
            by_rate.setdefault(record.run.learning_rate, []).append(record)
    return {rate: _score_rate(records, metric) for rate, records in by_rate.items()}


def expected_best_scores(
    tuning: Sequence[Record], metric: str, trials: Mapping[float, RateScore | None] | None = None
) -> tuple[ExpectedBest, ...]:
    """For one to all of the rates; empty if fewer than two were tried, or if answers are missing.

    Args:
        trials: :func:`score_rates` of the runs, if it was computed before.
    """
    by_rate = score_rates(tuning, metric) if trials is None else trials
    scores = [score for score in by_rate.values() if score is not None]
    if len(scores) < 2 or len(scores) < len(by_rate):
        return ()
    estimates = np.array([score.estimate for score in scores])
    num_draws = max(len(score.draws) for score in scores)
    draws = np.stack([np.broadcast_to(score.draws, num_draws) for score in scores])
    examples = max(score.examples for score in scores)
    if not examples:
        return ()
    seconds = _mean_seconds(tuning, len(scores))
    return tuple(
        ExpectedBest(
            trials=n,
            expected=_interval(estimates, draws, n, examples, metric),
            seconds=None if seconds is None else n * seconds,
        )
        for n in range(1, len(scores) + 1)
    )


def expected_maximum(values: Array, n: int) -> Array:
    """The formula above, over the first axis of ``values`` (N, ...)."""
    total = len(values)
    cumulative = (np.arange(total + 1) / total) ** n
    return np.asarray(np.tensordot(np.diff(cumulative), np.sort(values, axis=0), axes=1))


def _score_rate(records: Sequence[Record], metric: str) -> RateScore | None:
    lowest = metrics.get(metric).lowest
    estimates, draws, examples = [], [], 0
    for record in records:
        if record.is_lost:
            if not math.isfinite(lowest):
                return None
            estimates.append(lowest)
            draws.append(np.full(1, lowest))
        elif "selection" in record.predictions:
            score = bootstrap_score([record.predictions["selection"]], metric)
            spread = float(score.draws.var(ddof=1))
            factor = math.sqrt(bootstrap_variance(score, score.draws) / spread) if spread else 1.0
            estimates.append(score.estimate)
            draws.append(score.estimate + factor * (score.draws - score.estimate))
            examples += len(score.uid)
        else:
            return None
    num_draws = max(len(fold) for fold in draws)
    same_length = [np.broadcast_to(fold, num_draws) for fold in draws]
    return RateScore(float(np.mean(estimates)), np.mean(same_length, axis=0), examples)


def _interval(estimates: Array, draws: Array, n: int, examples: int, metric: str) -> Interval:
    estimate = float(expected_maximum(estimates, n))
    error = float(expected_maximum(draws, n).std(ddof=1))
    half = float(special.stdtrit(max(examples - 1, 1), (1 + LEVEL) / 2)) * error
    highest = metrics.get(metric).highest
    return Interval(
        estimate=estimate,
        low=max(metrics.get(metric).lowest, estimate - half),
        high=min(highest, estimate + half),
        n_examples=examples,
        n_seeds=1,
        share_seeds=0.0,
        highest=highest,
    )


def _mean_seconds(tuning: Sequence[Record], rates: int) -> float | None:
    """Mean seconds of training of a rate, all its folds together."""
    known = [seconds for record in tuning if (seconds := record.train_seconds) is not None]
    return sum(known) / rates if known and len(known) == len(tuning) else None
