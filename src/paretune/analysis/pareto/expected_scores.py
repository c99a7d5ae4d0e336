"""Estimates the score of the next run of each configuration, with one posterior for all chances.

A user who takes a configuration trains it once more. That run fails with some probability f
(diverges, does not fit, or answers a constant) and otherwise scores the configuration's mean m::

    expected score = (1 - f) m + f c        c: score of the constant answer

**The means** of all configurations together are normal around their scores. Their covariance is
that of the test rows (jackknife values; :func:`estimate_means`; times ``ROW_FACTOR`` under
cross-validation), since what is hard for all moves all, plus the scatter of runs, pooled over the
configurations with two degrees of freedom of 2.5 points. Credits get half of the noise of two
imaginary pairs, since equal answers do not prove two methods equal. The best of several noisy
scores is too high, so all are shrunk to a common mean (a hierarchical model: Gelman et al.,
Bayesian Data Analysis, chapter 5)::

    score ~ N(m, Sigma)      m ~ N(mean, tau^2 I)

The mean is unknown; that of the baselines is shifted from that of the methods by N(0, delta^2).
``tau`` and ``delta`` are either of ``_SPREAD_POINTS``, weighted by their likelihood. Trivial
baselines are not shrunk. Shares of draws are described by three words, since they are no
probabilities to a few per cent (docs/how-it-works/statistics.md).

**Failures** are Beta, with all failures of the task's configurations as their prior: 0.5 in 5 added
to their counts, worth one run. Jeffreys' prior would expect each method to fail in one run of eight
after three runs without a failure, and so would favour whatever has no seeds.

The chance to be the best, to be near it and to be on the front are shares of ``DRAWS`` draws,
always the same. What is chosen follows from the scores that were seen, discounted by failures:
choosing by the shrunk ones lost more (2.2 points instead of 1.7 with 56 rows and 3 seeds).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paretune import metrics
from paretune.analysis.cell import Cell, CellKey
from paretune.analysis.learning_check import TRIVIAL_TEXTS, best_trivial_score
from paretune.analysis.statistics.differences import ROW_FACTOR, RunScatter, fold_scatter
from paretune.analysis.statistics.scores import RunScores, keep_comparable
from paretune.methods import baselines
from paretune.metrics import Array

DRAWS = 2000
_SEED = 20_261_125
_RUN_POINTS = 2.5
_RUN_DEGREES = 2.0
_LEAST_RUN_POINTS = 0.5
_SPREAD_POINTS = (1.5, 6.0)
"""Scatter of true means, and shift of baselines, in points: each value is as likely as the next."""
_PRIOR_FAILURES = (0.5, 5.0)
"""Failures and runs that are added to those of all configurations."""
_PRIOR_RUNS = 1.0


@dataclass(frozen=True, eq=False)
class ExpectedScore:
    """The expected score of the next run of a configuration.

    Attributes:
        score: score of the runs that trained.
        estimate: that score on all rows, discounted by failures; choices compare it.
        draws: (DRAWS,) draws of the expected score.
    """

    score: RunScores
    estimate: float
    draws: Array


def expected_scores(cells: Sequence[Cell]) -> dict[CellKey, ExpectedScore]:
    """Estimate the expected scores of a task's cells that answered the rows that most answered."""
    by_key = {cell.key: cell for cell in cells}
    scores = keep_comparable((key, cell.run_scores) for key, cell in by_key.items())
    methods = [key for key in scores if not by_key[key].baseline]
    if any(scores[key].design.is_cross_validation for key in methods):
        # Baselines have all rows before methods have reached them.
        reached = frozenset[str]().union(*(scores[key].uid for key in methods))
        scores = {
            key: score.restrict(reached) if by_key[key].baseline else score
            for key, score in scores.items()
            if not reached.isdisjoint(score.uid)
        }
    most = max((len(score.uid) for score in scores.values()), default=0)
    scores = {key: score for key, score in scores.items() if 2 * len(score.uid) >= most}
    if not scores:
        return {}
    rng = np.random.default_rng([_SEED, len(scores)])
    configurations = [by_key[key] for key in scores]
    first = next(iter(scores.values()))
    seeded = [not cell.deterministic for cell in configurations]
    estimates, noise = estimate_means(list(scores.values()), seeded)
    draws = draw_true_means(configurations, estimates, noise, first.highest / 100, DRAWS, rng)
    draws = np.clip(draws, first.lowest, first.highest)
    # A failed run is worth the constant answer, or nothing.
    constant = max(metrics.get(cells[0].metric).lowest, 0.0)
    trivial = best_trivial_score(cells)
    if trivial is not None and trivial.answer not in TRIVIAL_TEXTS:
        constant = trivial.value
    failures = estimate_failures(configurations)
    expected = {}
    for (key, score), mean, means in zip(scores.items(), estimates, draws, strict=True):
        fails, share = 0.0, np.zeros(DRAWS)
        if key in failures:
            failed, trained = failures[key]
            fails, share = failed / (failed + trained), rng.beta(failed, trained, DRAWS)
        expected[key] = ExpectedScore(
            score=score,
            estimate=float((1 - fails) * mean + fails * constant),
            draws=(1 - share) * means + share * constant,
        )
    return expected


def estimate_means(scores: Sequence[RunScores], seeded: Sequence[bool]) -> tuple[Array, Array]:
    """Estimate scores as if all had answered the same rows, (k,), and their covariance, (k, k).

    Folds that fail leave rows out. A score on rows that are hard for the others is raised::

        value of a row ~ mean of the configuration + effect of the row        (least squares)

    The effects are shrunk as if they varied as much as the rest.

    Args:
        scores: k scores.
        seeded: (k,): whether the runs of each scatter.
    """
    first = scores[0]
    uids = dict.fromkeys(uid for score in scores for uid in score.unit_uids)
    places = {uid: place for place, uid in enumerate(uids)}
    estimates = np.array([score.estimate for score in scores])
    errors, answered = np.zeros((2, len(scores), len(places)))
    for i, score in enumerate(scores):
        columns = [places[uid] for uid in score.unit_uids]
        errors[i, columns] = score.values.mean(axis=0) - score.estimate
        answered[i, columns] = 1
    weights = answered / (answered.sum(axis=0) + 1)
    normal = np.diag(answered.sum(axis=1)) - answered @ weights.T

    def solve(values: Array) -> Array:
        return np.linalg.solve(normal, values - answered * (weights * values).sum(axis=0))

    if not answered.all():
        shifts = solve(errors).sum(axis=1)
        estimates = np.clip(estimates + shifts, first.lowest, first.highest)
        errors -= answered * shifts[:, None]
    covariance = np.zeros((len(scores), len(scores)))
    if len(places) > 1:
        factor = ROW_FACTOR if first.design.is_cross_validation else 1.0
        of_row = solve(errors)
        covariance += factor * (of_row @ of_row.T) * len(places) / (len(places) - 1)
    if first.credit is not None:
        counts = np.array([len(s.credit) for s in scores if s.credit is not None])
        covariance += np.diag(0.5 / (counts + 2) ** 2)
    run = pool_run_variance(itertools.compress(scores, seeded)).variance
    for i in map(int, np.flatnonzero(seeded)):
        noise = 0.0 if first.design.is_cross_validation else scores[i].noise_variance
        of_mean = run / max(scores[i].runs, 1)
        covariance[i, i] += max(of_mean - noise, of_mean / 4)
    return estimates, covariance


def draw_true_means(
    cells: Sequence[Cell],
    estimates: Array,
    noise: Array,
    point: float,
    draws: int,
    rng: np.random.Generator,
) -> Array:
    """Draw true means from their posterior: (k, draws).

    Args:
        cells: k cells.
        estimates: (k,) estimates of their means.
        noise: (k, k), covariance of the estimates around the true means.
        point: a hundredth of the metric's highest value.
        draws: number of draws.
        rng: generator of the draws.
    """
    # 0 scatters around a mean, 1 around another that is shifted from it; 2 is free.
    groups = np.array([2 if c.name in baselines.TRIVIAL else int(c.baseline) for c in cells])
    wide = (100 * point) ** 2
    noise = noise + (1e-5 * point) ** 2 * np.eye(len(noise))  # so that it can be factorised
    shifts = _SPREAD_POINTS if 1 in groups else (0.0,)
    deviations = estimates - estimates.mean()
    logs, posteriors = [], []
    for spread, shift in itertools.product(_SPREAD_POINTS, shifts):
        prior = np.diag(np.where(groups == 2, wide, (spread * point) ** 2)) + wide
        prior += np.outer(groups == 1, groups == 1) * (shift * point) ** 2
        solved = np.linalg.solve(prior + noise, np.column_stack([deviations, noise]))
        logs.append(-(np.linalg.slogdet(prior + noise)[1] + deviations @ solved[:, 0]) / 2)
        covariance = noise - noise @ solved[:, 1:]
        posteriors.append((estimates - noise @ solved[:, 0], (covariance + covariance.T) / 2))
    weights = np.exp(np.array(logs) - max(logs))
    counts = rng.multinomial(draws, weights / weights.sum())
    parts = [
        rng.multivariate_normal(*posterior, count, method="cholesky")  # eigh differs by processor
        for posterior, count in zip(posteriors, counts, strict=True)
    ]
    return np.concatenate(parts).T


def pool_run_variance(scores: Iterable[RunScores]) -> RunScatter:
    """Pool the variance of single runs of all configurations, with its prior."""
    point = 0.0
    total = 0.0
    degrees = _RUN_DEGREES
    for score in scores:
        point = score.highest / 100
        variance = score.run_variance
        if score.fold_scores is not None and score.units > 1:
            # Rows explain this part: a fold has 1/K of them.
            rows = float(score.values.var(axis=1, ddof=1).mean()) / score.units
            variance = fold_scatter(score.fold_scores).variance
            variance -= rows * score.runs / len(score.tables)
        total += score.run_degrees * variance
        degrees += score.run_degrees
    total += _RUN_DEGREES * (_RUN_POINTS * point) ** 2
    return RunScatter(max(total / degrees, (_LEAST_RUN_POINTS * point) ** 2), degrees)


def estimate_failures(cells: Iterable[Cell]) -> dict[CellKey, tuple[float, float]]:
    """Return failed and trained runs of each configuration that may fail, with the prior."""
    counts = {
        cell.key: (rate.failed, rate.runs - rate.failed)
        for cell in cells
        if (rate := cell.failures) is not None
    }
    failed, runs = _PRIOR_FAILURES
    failed += sum(fails for fails, _ in counts.values())
    runs += sum(map(sum, counts.values()))
    share = _PRIOR_RUNS * failed / runs
    return {
        key: (fails + share, trained + _PRIOR_RUNS - share)
        for key, (fails, trained) in counts.items()
    }


ChanceName = Literal["unlikely", "open", "likely"]
UNLIKELY, LIKELY = 0.2, 0.8
"""Shares of draws below which something is unlikely, and above which it is likely."""


def name_chance(share_of_draws: float) -> ChanceName:
    """Describe a chance by one of three words.

    Shares of draws are no percentages of truth: in half of the bins of simulated studies they were
    off by more than 7 points, whatever the posterior.
    """
    if share_of_draws < UNLIKELY:
        return "unlikely"
    return "likely" if share_of_draws > LIKELY else "open"


@dataclass(frozen=True)
class Chance:
    """The chance of an event.

    Attributes:
        name: unlikely (under 20 % of draws), open, likely (over 80 %): draws are no probabilities
            that can be relied on to a few per cent.
        share_of_draws: of 2,000 draws in which it is so.
    """

    name: ChanceName
    share_of_draws: float


@dataclass(frozen=True)
class Prospect:
    """Possible results of a configuration. Points are hundredths of the metric's highest value.

    Attributes:
        score: the expected score of its next run, failures included: the mean of the draws.
        best: chance that it is the best of all.
        worse: chance that it is more than ``within_points`` below the best.
        below_baseline: chance that it is below the best baseline without a model; None for that
            baseline itself, or where there is none.
    """

    score: float
    best: Chance
    worse: Chance
    below_baseline: Chance | None


def estimate_prospects(
    scores: Mapping[CellKey, ExpectedScore], baseline: ExpectedScore | None, within_points: float
) -> dict[CellKey, Prospect]:
    """Estimate the prospects of each configuration against the best of all.

    Args:
        scores: scores of the configurations to choose from.
        baseline: the best baseline without a model.
        within_points: points below the best that are as good as the best.
    """
    if not scores:
        return {}
    draws = np.stack([score.draws for score in scores.values()])
    point = next(iter(scores.values())).score.highest / 100
    losses = (draws.max(axis=0) - draws) / point
    is_best = losses == 0
    # Several best configurations share a draw, so that the chances of all sum to 1.
    shares = (is_best / is_best.sum(axis=0)).mean(axis=1)
    prospects = {}
    for (key, score), loss, share in zip(scores.items(), losses, shares, strict=True):
        worse = float((loss > within_points).mean())
        below = None
        if baseline is not None and score is not baseline:
            share_below = float((score.draws < baseline.draws).mean())
            below = Chance(name_chance(share_below), share_below)
        prospects[key] = Prospect(
            score=float(score.draws.mean()),
            best=Chance(name_chance(float(share)), float(share)),
            worse=Chance(name_chance(worse), worse),
            below_baseline=below,
        )
    return prospects
