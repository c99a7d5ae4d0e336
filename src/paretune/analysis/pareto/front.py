"""The Pareto front: which configurations no other beats in quality and cost at once.

A configuration is on the front if no other costs at most as much and scores at least as high, one
of the two strictly. Scores and some costs are uncertain, so each configuration has a probability of
being on the front: the share of 2,000 draws in which it is. One draw is

- for quality, the score on one bootstrap resample of the test examples (or clusters), the same
  examples for every configuration, so that what is hard for all moves all; plus, independently for
  each configuration, Student's noise of its seeds, t(S - 1) s / sqrt(S), and normal noise of half
  of the two imaginary pairs that every difference gets (Agresti and Min 2005), variance
  1 / 2(n + 2)^2, since equal answers do not prove two methods equal;
- for cost, its mean plus normal noise of its standard error, where one was measured
  (:func:`paretune.analysis.pareto.costs.estimate_cost`); a single measurement of memory has none.

This is the support for a place on the front, as the bootstrap's support of a branch (Efron and
Tibshirani 1998, "The problem of regions"); it is no posterior probability. With one seed it covers
examples only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.statistics.bootstrap import DRAWS
from paretune.analysis.statistics.bootstrap_score import BootstrapScore
from paretune.analysis.statistics.score_interval import Interval, confidence_interval

_SEED = 20_261_125


@dataclass(frozen=True)
class ParetoPoint:
    """A configuration with its score and cost.

    Attributes:
        name: of the configuration.
        quality: its score.
        cost: on the axis of the front.
        on_front: whether the estimates put it on the front.
        probability: share of ``DRAWS`` draws that do.
    """

    name: str
    quality: Interval
    cost: CostEstimate
    on_front: bool
    probability: float


def pareto_front(
    qualities: Mapping[str, BootstrapScore],
    costs: Mapping[str, CostEstimate],
    draws: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[ParetoPoint, ...]:
    """Every configuration that has both a score and a cost, cheapest first.

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
    scores = np.stack([drawn[name] for name in names])
    prices = np.stack([_draw_cost(costs[name], rng) for name in names])
    probabilities = non_dominated(scores, prices).mean(axis=1)
    on_front = non_dominated(
        np.array([[qualities[name].estimate] for name in names]),
        np.array([[costs[name].value] for name in names]),
    )[:, 0]
    return tuple(
        ParetoPoint(
            name=name,
            quality=confidence_interval(qualities[name]),
            cost=costs[name],
            on_front=bool(on_front[i]),
            probability=float(probabilities[i]),
        )
        for i, name in enumerate(names)
    )


def draw_scores(qualities: Mapping[str, BootstrapScore]) -> dict[str, NDArray[Any]]:
    """Draws of each score over the shared examples and its own seeds: (DRAWS,)."""
    rng = np.random.default_rng([_SEED, len(qualities), 1])
    return {name: _draw_score(score, rng) for name, score in qualities.items()}


def non_dominated(scores: NDArray[Any], prices: NDArray[Any]) -> NDArray[Any]:
    """Which configurations are on the front, draw by draw; all shapes (configurations, draws)."""
    on_front = np.empty(scores.shape, dtype=bool)
    for i in range(len(scores)):
        as_good = (scores >= scores[i]) & (prices <= prices[i])
        better = (scores > scores[i]) | (prices < prices[i])
        on_front[i] = ~(as_good & better).any(axis=0)
    return on_front


def _draw_score(score: BootstrapScore, rng: np.random.Generator) -> NDArray[Any]:
    """Draws of a score over examples and seeds: (DRAWS,)."""
    draws = score.draws
    if score.cluster or score.question:
        # Few clusters make the bootstrap too narrow (statistics/score_interval.py).
        factor = math.sqrt(score.units / max(score.units - 1, 1))
        draws = score.estimate + (draws - score.estimate) * factor
    if score.credit is not None:
        draws = draws + rng.normal(0, math.sqrt(0.5) / (len(score.credit) + 2), DRAWS)
    if len(score.seeds) > 1 and score.seed_variance > 0:
        noise = rng.standard_t(len(score.seeds) - 1, DRAWS)
        draws = draws + noise * math.sqrt(score.seed_variance)
    return np.asarray(draws)


def _draw_cost(cost: CostEstimate, rng: np.random.Generator) -> NDArray[Any]:
    if cost.standard_error <= 0:
        return np.full(DRAWS, cost.value)
    return np.asarray(np.maximum(rng.normal(cost.value, cost.standard_error, DRAWS), 0.0))
