"""Computes the Pareto front: configurations that no other beats in quality and cost at once.

A configuration is on the front if no other costs at most as much and scores at least as high, one
of the two strictly. Scores and some costs are uncertain, so each configuration has a probability of
being on the front: the share of draws in which it is. One draw is the expected score of the next
run (:mod:`paretune.analysis.pareto.expected_scores`), and the mean cost plus normal noise of its
standard error, where one was measured (:func:`paretune.analysis.pareto.costs.estimate_cost`); a
single measurement of memory has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.pareto.expected_scores import DRAWS, ExpectedScore
from paretune.analysis.statistics.intervals import Interval, confidence_interval

_SEED = 20_261_125


@dataclass(frozen=True)
class ParetoPoint:
    """A configuration with its score and cost.

    Attributes:
        on_front: whether the estimates put it on the front.
        probability: share of the ``DRAWS`` draws that put it on the front.
    """

    name: str
    quality: Interval
    cost: CostEstimate
    on_front: bool
    probability: float


def pareto_front(
    expected: Mapping[str, ExpectedScore], costs: Mapping[str, CostEstimate]
) -> tuple[ParetoPoint, ...]:
    """Return every configuration with an expected score and a cost, cheapest first."""
    names = sorted((n for n in expected if n in costs), key=lambda n: (costs[n].value, n))
    if not names:
        return ()
    rng = np.random.default_rng([_SEED, len(names)])
    # A cost without a standard error is the same in every draw.
    prices = np.stack(
        [
            np.maximum(rng.normal(cost.value, cost.standard_error, DRAWS), 0.0)
            if cost.standard_error > 0
            else np.full(DRAWS, cost.value)
            for cost in (costs[name] for name in names)
        ]
    )
    drawn = non_dominated(np.stack([expected[name].draws for name in names]), prices)
    on_front = non_dominated(
        np.array([[expected[name].estimate] for name in names]),
        np.array([[costs[name].value] for name in names]),
    )[:, 0]
    return tuple(
        ParetoPoint(
            name=name,
            quality=confidence_interval(expected[name].score),
            cost=costs[name],
            on_front=bool(on_front[i]),
            probability=float(drawn[i].mean()),
        )
        for i, name in enumerate(names)
    )


def non_dominated(scores: NDArray[Any], prices: NDArray[Any]) -> NDArray[Any]:
    """Return for each draw which configurations are on the front: (configurations, draws)."""
    on_front = np.empty(scores.shape, dtype=bool)
    for i in range(len(scores)):
        as_good = (scores >= scores[i]) & (prices <= prices[i])
        better = (scores > scores[i]) | (prices < prices[i])
        on_front[i] = ~(as_good & better).any(axis=0)
    return on_front


def expected_excess(z: ArrayLike) -> NDArray[np.float64]:
    """Compute E[max(z + N, 0)] = z Phi(z) + phi(z) of a standard normal N, for each ``z``."""
    z = np.asarray(z, dtype=float)
    return np.asarray(z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
