"""The best score to be expected of a method, against how many learning rates it may try.

Dodge, Gururangan, Card, Schwartz and Smith (2019, "Show Your Work", arXiv:1909.03004): if n rates
are drawn from those that were tried, whose scores in order are v_1 <= ... <= v_N, the expected
best of them is::

    sum_i v_i ((i / N)^n - ((i - 1) / N)^n)

Ours were no draw but a range that suits the method, the same number for each; so it says what fewer
trials of the same range would have given on average, and nothing of n > N. Scores are of the
selection parts, by the tuning seed: the best of them is flattered, and is not the score on test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from paretune import metrics
from paretune.analysis.statistics.score_interval import (
    LEVEL,
    Interval,
    bootstrap_score,
    bootstrap_variance,
)
from paretune.metrics import Array
from paretune.store.record import UNSCORED_RESULTS, Record


@dataclass(frozen=True)
class ExpectedBest:
    """The expected best score of ``trials`` rates; ``seconds`` of training that they took.

    ``expected`` speaks of the examples of the selection parts, with one seed. ``seconds`` is None
    where it was not measured; runs that trained beside others count as long as they took.
    """

    trials: int
    expected: Interval
    seconds: float | None


@dataclass(frozen=True)
class RateScore:
    """One rate on trial: its mean score over folds, and the draws of that; over how many examples.

    Shapes: ``draws`` (DRAWS,), or (1,) where every fold was lost.
    """

    estimate: float
    draws: Array
    examples: int

    def interval(self, metric: str) -> Interval | None:
        """Over the examples of the selection parts, one seed; None where every fold was lost."""
        if not self.examples:
            return None
        return _interval(np.array([self.estimate]), self.draws[None], 1, self.examples, metric)


def score_rates(tuning: Sequence[Record], metric: str) -> dict[float, RateScore | None]:
    """Every rate on trial, as it was first tried; None where a trial's answers are not stored.

    A trial that diverged or did not fit has the lowest score there is; None too where that is minus
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
    """For one to all of the rates that were tried; empty where fewer than two were.

    Empty too where a trial's answers are not stored.

    Args:
        tuning: the runs on trial.
        metric: by which they are scored.
        trials: what :func:`score_rates` says of them, where that is known already.
    """
    known = score_rates(tuning, metric) if trials is None else trials
    there = [trial for trial in known.values() if trial is not None]
    if len(there) < 2 or len(there) < len(known):
        return ()
    estimates = np.array([trial.estimate for trial in there])
    longest = max(len(trial.draws) for trial in there)
    draws = np.stack([np.broadcast_to(trial.draws, longest) for trial in there])
    examples = max(trial.examples for trial in there)
    if not examples:
        return ()
    seconds = _seconds(tuning, len(there))
    return tuple(
        ExpectedBest(
            trials=n,
            expected=_interval(estimates, draws, n, examples, metric),
            seconds=None if seconds is None else n * seconds,
        )
        for n in range(1, len(there) + 1)
    )


def expected_maximum(values: Array, n: int) -> Array:
    """The formula above, over the first axis of ``values`` (N, ...)."""
    total = len(values)
    upto = (np.arange(total + 1) / total) ** n
    return np.asarray(np.tensordot(np.diff(upto), np.sort(values, axis=0), axes=1))


def _score_rate(records: Sequence[Record], metric: str) -> RateScore | None:
    worst = metrics.get(metric).lowest
    estimates, draws, examples = [], [], 0
    for record in records:
        if record.outcome in UNSCORED_RESULTS:
            if not math.isfinite(worst):
                return None
            estimates.append(worst)
            draws.append(np.full(1, worst))
        elif "selection" in record.predictions:
            found = bootstrap_score([record.predictions["selection"]], metric)
            spread = float(found.draws.var(ddof=1))
            wider = math.sqrt(bootstrap_variance(found, found.draws) / spread) if spread else 1.0
            estimates.append(found.estimate)
            draws.append(found.estimate + wider * (found.draws - found.estimate))
            examples += len(found.uid)
        else:
            return None
    longest = max(len(one) for one in draws)
    whole = [np.broadcast_to(one, longest) for one in draws]
    return RateScore(float(np.mean(estimates)), np.mean(whole, axis=0), examples)


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


def _seconds(tuning: Sequence[Record], rates: int) -> float | None:
    """Mean seconds of training of a rate, all its folds together."""
    found = [record.measured.get("wall_seconds", {}).get("train") for record in tuning]
    known = [float(seconds) for seconds in found if seconds is not None]
    return sum(known) / rates if known and len(known) == len(tuning) else None
