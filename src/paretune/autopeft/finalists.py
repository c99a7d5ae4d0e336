"""What a search enters into the final stage: its front by what is believed, and which of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paretune.autopeft.schedule import Beliefs, Cost, list_front_indices
from paretune.autopeft.space import Configuration

Pick = Literal["best", "knee", "cheapest"]


@dataclass(frozen=True)
class Candidate:
    """A configuration of the front.

    ``score``: the posterior mean, which is what is believed; ``raw``: what it scored.
    """

    configuration: Configuration
    price: float
    score: float
    deviation: float
    raw: float


def rank_front(
    cost_of: Callable[[Configuration], Cost | None], beliefs: Beliefs
) -> tuple[Candidate, ...]:
    """The front by posterior means, the cheapest first."""
    every = {one.configuration: one for one in _list_candidates(cost_of, beliefs)}
    tried = [beliefs.tried[n] for n in list_front_indices(cost_of, beliefs)]
    return tuple(every[one] for one in tried if one in every)


def _list_candidates(
    cost_of: Callable[[Configuration], Cost | None], beliefs: Beliefs
) -> list[Candidate]:
    """All that were tried and were not lost."""
    listed = []
    for n, one in enumerate(beliefs.tried):
        cost = cost_of(one)
        if cost is not None and not beliefs.trials[n].lost:
            own = (float(beliefs.means[n]), float(beliefs.deviations[n]), beliefs.trials[n].score)
            listed.append(Candidate(one, cost.price, *own))
    return listed


def rank_finalists(
    cost_of: Callable[[Configuration], Cost | None], beliefs: Beliefs, pick: Pick
) -> tuple[Candidate, ...]:
    """Distinct configurations that may enter the final stage, the picked one first.

    Then what the other picks are, the rest of the front, and all others, the best first.
    """
    front = rank_front(cost_of, beliefs)
    if not front:
        return ()
    picks: tuple[Pick, ...] = ("best", "knee", "cheapest")
    ranked = [pick_candidate(front, one) for one in dict.fromkeys((pick, *picks))]
    ranked += sorted(front, key=lambda one: -one.score)
    ranked += sorted(_list_candidates(cost_of, beliefs), key=lambda one: -one.score)
    return tuple({one.configuration: one for one in ranked}.values())


def pick_candidate(front: Sequence[Candidate], pick: Pick) -> Candidate:
    """One of a front: the best, the cheapest, or the knee between them.

    The knee is what stands farthest above the line from the cheapest to the best, over the
    logarithm of the price (Das 1999, normal-boundary intersection).
    """
    cheapest, best = front[0], front[-1]
    if pick == "cheapest" or len(front) == 1:
        return cheapest
    if pick == "best":
        return best
    width = np.log(best.price / cheapest.price) or 1.0
    height = best.score - cheapest.score or 1.0

    def above(one: Candidate) -> float:
        share = np.log(one.price / cheapest.price) / width
        return float((one.score - cheapest.score) / height - share)

    return max(front, key=above)
