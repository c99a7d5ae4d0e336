"""The expected best score of a method as a function of the number of learning rates tried.

Dodge, Gururangan, Card, Schwartz and Smith (2019, "Show Your Work", arXiv:1909.03004): if n rates
are drawn from those that were tried, whose scores in order are v_1 <= ... <= v_N, the expected
best of them is::

    sum_i v_i ((i / N)^n - ((i - 1) / N)^n)

Here rates are not drawn but cover a range that suits the method, the same number for each. So the
formula says what fewer trials of that range would have given on average, and nothing about n > N.
Scores are of the selection parts, with the tuning seed: the best of them is optimistically biased,
and is not the test score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from paretune import metrics
from paretune.analysis.statistics.bootstrap_score import bootstrap_score, bootstrap_variance
from paretune.analysis.statistics.score_interval import LEVEL, Interval
from paretune.metrics import Array
from paretune.store.record import Record


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
