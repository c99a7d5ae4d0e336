"""The Pareto front: which configurations no other beats in quality and cost at once.

A configuration is on the front when no other costs at most as much and scores at least as high,
one of the two strictly. Scores and some costs are uncertain, so each configuration has the
probability of being there: the share of 2,000 draws in which it is. One draw is

- for quality, the score on one bootstrap resample of the test examples (or clusters), the same
  examples for every configuration, so what is hard for all moves all; to which is added, for each
  configuration on its own, Student's noise of its seeds: t(S - 1) s / sqrt(S); and normal noise of
  half of the two imagined pairs that a difference always gets (Agresti and Min 2005), variance
  1 / 2(n + 2)^2, since equal answers do not prove two methods equal;
- for cost, its mean plus normal noise of its standard error, where one was measured
  (:func:`paretune.analysis.pareto.costs.estimate_cost`); a single measurement of memory has none
  and stays.

It says how far these records speak for a place on the front, as the bootstrap's support of a
branch does (Efron and Tibshirani 1998, "The problem of regions"); it is no posterior probability.
With one seed it speaks of examples only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.scores import Array
from paretune.analysis.statistics.bootstrap import DRAWS
from paretune.analysis.statistics.score_interval import (
    BootstrapScore,
    Interval,
    confidence_interval,
)

_SEED = 20_261_125


@dataclass(frozen=True)
class ParetoPoint:
    """A configuration: its score, its cost, whether the estimates put it on the front, how surely.

    ``probability`` is a share of ``DRAWS`` draws.
    """

    name: str
    quality: Interval
    cost: CostEstimate
    on_front: bool
    probability: float


def pareto_front(
    qualities: Mapping[str, BootstrapScore],
    costs: Mapping[str, CostEstimate],
    draws: Mapping[str, Array] | None = None,
) -> tuple[ParetoPoint, ...]:
    """Every configuration that has both, cheapest first.

    Args:
        qualities: scores on the same examples.
        costs: on one axis, less is better.
        draws: :func:`draw_scores` of all of them, where several axes share them.
    """
    names = sorted((n for n in qualities if n in costs), key=lambda n: (costs[n].value, n))
    if not names:
        return ()
    drawn = draw_scores(qualities) if draws is None else draws
    rng = np.random.default_rng([_SEED, len(names)])
    score = np.stack([drawn[name] for name in names])
    price = np.stack([_draw_cost(costs[name], rng) for name in names])
    there = non_dominated(score, price).mean(axis=1)
    plain = non_dominated(
        np.array([[qualities[name].estimate] for name in names]),
        np.array([[costs[name].value] for name in names]),
    )[:, 0]
    return tuple(
        ParetoPoint(
            name, confidence_interval(qualities[name]), costs[name], bool(plain[i]), float(there[i])
        )
        for i, name in enumerate(names)
    )


def draw_scores(qualities: Mapping[str, BootstrapScore]) -> dict[str, Array]:
    """Draws of each score over examples, which all share, and over its own seeds: (DRAWS,)."""
    rng = np.random.default_rng([_SEED, len(qualities), 1])
    return {name: _draw_score(cell, rng) for name, cell in qualities.items()}


def non_dominated(score: Array, price: Array) -> Array:
    """Which are on the front, draw by draw; all shapes (configurations, draws)."""
    there = np.empty(score.shape, dtype=bool)
    for i in range(len(score)):
        as_good = (score >= score[i]) & (price <= price[i])
        better = (score > score[i]) | (price < price[i])
        there[i] = ~(as_good & better).any(axis=0)
    return there


def _draw_score(cell: BootstrapScore, rng: np.random.Generator) -> Array:
    """Draws of a cell's score over examples and seeds: (DRAWS,)."""
    draws = cell.draws
    if cell.cluster or cell.question:
        # Few clusters make the bootstrap too narrow (analysis/statistics/score_interval.py).
        wider = math.sqrt(cell.units / max(cell.units - 1, 1))
        draws = cell.estimate + (draws - cell.estimate) * wider
    if cell.credit is not None:
        draws = draws + rng.normal(0, math.sqrt(0.5) / (len(cell.credit) + 2), DRAWS)
    if len(cell.seeds) > 1 and cell.seed_variance > 0:
        noise = rng.standard_t(len(cell.seeds) - 1, DRAWS)
        draws = draws + noise * math.sqrt(cell.seed_variance)
    return np.asarray(draws)


def _draw_cost(cost: CostEstimate, rng: np.random.Generator) -> Array:
    if cost.standard_error <= 0:
        return np.full(DRAWS, cost.value)
    return np.asarray(np.maximum(rng.normal(cost.value, cost.standard_error, DRAWS), 0.0))
