"""What the next run of a configuration may be expected to score, with what is uncertain about it.

A user who takes a configuration trains it once more. That run fails with some probability f
(diverges, does not fit, or answers a constant) and otherwise scores the configuration's mean m::

    expected score = (1 - f) m + f c        c: score of the constant answer

Each configuration has ``DRAWS`` draws of it; draws of the same number share their test examples.

- m: the score of the runs that trained on one bootstrap resample of the test examples (or
  clusters), the same for every configuration, so that what is hard for all moves all; its
  deviation is multiplied by sqrt(phi) under cross-validation (:class:`TestDesign`). Credits get
  half of the noise of two imaginary pairs, variance 1 / 2(n + 2)^2 (Agresti and Min 2005), since
  equal answers do not prove two methods equal. Added are ``t(d) s / sqrt(S)`` of the S seeds; under
  cross-validation rows carry the seeds.
- s is moderated, since two or three seeds agree by chance now and then: the mean of the
  configuration's own variance (S - 1 degrees of freedom) and of the variance of all configurations
  together (worth 4), to which 2 degrees of freedom of 2.5 points are added. d is their sum. One
  seed thus has the others' scatter, and a study of single seeds has 2.5 points.
- f: Beta, with all failures of the task's configurations as its prior: 0.5 in 5 added to their
  counts, worth one run. Jeffreys' prior would expect each method to fail in one run of eight after
  three runs without a failure, and so would favour whatever has no seeds.

Means have no prior: shrinking them to one another costs 0.5 to 3 points where the costly methods
are also the better ones. What is deterministic neither varies nor fails.

In one draw the loss of a configuration is how far
it lies below the highest of that draw; its expected loss is the mean over draws. The highest of
many noisy scores is too high itself, so the expected loss is on the safe side: in simulations it
was 2.5 points where the true one was 1.6 (docs/your-study/report.md). Between two configurations it
differs by exactly what their expected scores differ.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from paretune import metrics
from paretune.analysis.cell import Cell
from paretune.analysis.learning_check import TRIVIAL_TEXTS, best_trivial_score
from paretune.analysis.statistics.scores import (
    DRAWS,
    BootstrapScore,
    align_rows,
    keep_comparable,
    restrict_rows,
)
from paretune.metrics import Array

_SEED = 20_261_125
_PRIOR_SEED_POINTS = 2.5
_PRIOR_DEGREES = 2.0
_SHARED_DEGREES = 4.0
_PRIOR_FAILURES = (0.5, 5.0)
"""Failures and runs that are added to those of all configurations."""
_PRIOR_RUNS = 1.0

CellKey = tuple[str, str]
"""Model and method."""
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, eq=False)
class ExpectedScore:
    """The expected score of the next run of a configuration.

    Attributes:
        score: of the runs that trained.
        estimate: the expected score.
        draws: (DRAWS,) of it.
    """

    score: BootstrapScore
    estimate: float
    draws: Array


def expected_scores(cells: Sequence[Cell]) -> dict[CellKey, ExpectedScore]:
    """The expected scores of one task's cells that answered the same examples as most of them."""
    by_key = {(cell.model, cell.method): cell for cell in cells}
    comparable = keep_comparable((key, cell.bootstrap) for key, cell in by_key.items())
    scores = align_rows(_keep_rows_of_race(comparable, by_key))
    fixed = {key for key in scores if by_key[key].deterministic}
    draws = draw_scores(scores, fixed)
    constant = score_of_constant(cells)
    counts = {
        key: (rate.failed, rate.runs - rate.failed)
        for key in scores
        if (rate := by_key[key].failures) is not None
    }
    prior = failure_prior(counts.values())
    rng = np.random.default_rng([_SEED, len(scores), 2])
    by_cell = {}
    for key, score in scores.items():
        mean, share = 0.0, np.zeros(DRAWS)
        if key in counts:
            failed, trained = np.add(counts[key], prior)
            mean, share = failed / (failed + trained), rng.beta(failed, trained, DRAWS)
        by_cell[key] = ExpectedScore(
            score=score,
            estimate=float((1 - mean) * score.estimate + mean * constant),
            draws=(1 - share) * draws[key] + share * constant,
        )
    return by_cell


def _keep_rows_of_race(
    scores: Mapping[CellKey, BootstrapScore], cells: Mapping[CellKey, Cell]
) -> dict[CellKey, BootstrapScore]:
    """Cross-validated scores of a race on the rows that its methods have reached.

    Methods that were stopped after fewer folds are left out, for their rows would be all that the
    others are judged on; baselines, which have all rows, are judged on those of the methods.
    """
    methods = {key for key in scores if cells[key].raced and not cells[key].baseline}
    if not any(scores[key].design.is_cross_validation for key in methods):
        return dict(scores)
    most = max(len(cells[key].final) for key in methods)
    behind = {k for k in methods if cells[k].stop is not None and len(cells[k].final) < most}
    reached = frozenset[str]().union(*(scores[key].uid for key in methods - behind))
    return {
        key: score if key in methods else restrict_rows(score, reached)
        for key, score in scores.items()
        if key not in behind
    }


def draw_scores(
    scores: Mapping[Key, BootstrapScore], fixed: Collection[Key] = ()
) -> dict[Key, Array]:
    """Draws of each mean score over examples and seeds: (DRAWS,).

    Args:
        scores: on the same examples.
        fixed: those that depend on no seed.
    """
    rng = np.random.default_rng([_SEED, len(scores), 1])
    seeded = scores.keys() - set(fixed)
    shared = _shared_seed_variance([scores[key] for key in seeded])
    return {
        key: _draw_score(score, shared if key in seeded else None, rng)
        for key, score in scores.items()
    }


def _draw_score(score: BootstrapScore, shared: float | None, rng: np.random.Generator) -> Array:
    """``shared``: variance between seeds of all configurations; None adds no noise of seeds."""
    inflation = score.design.phi(score.units) * score.cluster_factor
    draws = score.estimate + (score.draws - score.estimate) * math.sqrt(inflation)
    if score.credit is not None:
        draws = draws + rng.normal(0, math.sqrt(0.5) / (len(score.credit) + 2), DRAWS)
    if shared is not None:
        run_degrees = score.run_degrees
        degrees = _SHARED_DEGREES + run_degrees
        variance = (
            _SHARED_DEGREES * shared / score.runs + run_degrees * score.seed_variance
        ) / degrees
        draws = draws + rng.standard_t(degrees, DRAWS) * math.sqrt(variance)
    return np.asarray(np.clip(draws, score.lowest, score.highest))


def _shared_seed_variance(scores: Sequence[BootstrapScore]) -> float:
    """The variance between seeds of all configurations together, with its prior."""
    if not scores:
        return 0.0
    prior = (_PRIOR_SEED_POINTS * scores[0].highest / 100) ** 2
    total, degrees = _PRIOR_DEGREES * prior, _PRIOR_DEGREES
    for score in scores:
        total += score.run_degrees * score.run_variance
        degrees += score.run_degrees
    return max(total, 0.0) / degrees


def failure_prior(counts: Iterable[tuple[int, int]]) -> tuple[float, float]:
    """Failed and trained runs that every configuration is given beforehand."""
    failed, runs = _PRIOR_FAILURES
    for fails, trained in counts:
        failed += fails
        runs += fails + trained
    share = failed / runs
    return _PRIOR_RUNS * share, _PRIOR_RUNS * (1 - share)


def score_of_constant(cells: Sequence[Cell]) -> float:
    """What a failed run is worth: the constant answer, or nothing."""
    trivial = best_trivial_score(cells)
    if trivial is None or trivial.answer in TRIVIAL_TEXTS:
        return max(metrics.get(cells[0].metric).lowest, 0.0) if cells else 0.0
    return trivial.value


@dataclass(frozen=True)
class Prospect:
    """What taking a configuration may bring. Points are hundredths of the metric's highest value.

    Attributes:
        chance_best: that it is the best of all.
        chance_worse: that it is more than ``within_points`` below the best.
        chance_below_baseline: that it is below the best baseline without a model; None where it is
            that itself, or where there is none.
    """

    score: float
    loss_points: float
    chance_best: float
    chance_worse: float
    chance_below_baseline: float | None


def estimate_prospects(
    scores: Mapping[CellKey, ExpectedScore], baseline: ExpectedScore | None, within_points: float
) -> dict[CellKey, Prospect]:
    """The prospects of each configuration against the best of all.

    Args:
        scores: of the configurations from which is chosen.
        baseline: the best baseline without a model.
        within_points: how far below the best is as good as the best.
    """
    if not scores:
        return {}
    draws = np.stack([score.draws for score in scores.values()])
    point = next(iter(scores.values())).score.highest / 100
    losses = (draws.max(axis=0) - draws) / point
    is_best = losses == 0
    # Where several are the best they share it, so that the chances of all sum to 1.
    shares = (is_best / is_best.sum(axis=0)).mean(axis=1)
    return {
        key: Prospect(
            score=score.estimate,
            loss_points=float(loss.mean()),
            chance_best=float(share),
            chance_worse=float((loss > within_points).mean()),
            chance_below_baseline=None
            if baseline is None or score is baseline
            else float((score.draws < baseline.draws).mean()),
        )
        for (key, score), loss, share in zip(scores.items(), losses, shares, strict=True)
    }
