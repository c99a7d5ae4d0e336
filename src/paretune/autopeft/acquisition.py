"""What a trial may add to the front: expected hypervolume improvement, in closed form.

Emmerich et al. 2006 (doi 10.1109/TEVC.2005.859463) define it for objectives that are all uncertain.
Here the cost of a configuration is known before it runs, so only its score is: at cost c(x) it can
raise the front over all higher costs, and the improvement is a sum over the front's steps j of
width w_j right of c(x) and height q_j,

    EHVI(x) = sum_j w_j [ (mu - q_j) Phi(z_j) + sd phi(z_j) ],   z_j = (mu - q_j) / sd,

the expected improvement over each step times its width
(Mockus 1975; Jones, Schonlau and Welch 1998, doi 10.1023/A:1008306431147).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def expected_excess(z: ArrayLike) -> Array:
    """E[max(z + N, 0)] = z Phi(z) + phi(z) of a standard normal N, for each ``z``."""
    from scipy.special import ndtr

    z = np.asarray(z, dtype=float)
    return np.asarray(z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class Front:
    """The best score that may be had at each cost.

    Attributes:
        costs: of the configurations on the front, rising; (front,).
        scores: theirs, rising; (front,).
        worst: score of what is worth nothing: below the lowest cost.
        highest_cost: where the area ends.
    """

    costs: Array
    scores: Array
    worst: float
    highest_cost: float

    @property
    def hypervolume(self) -> float:
        """Area between the steps and ``worst``, up to ``highest_cost``."""
        widths = np.diff(np.append(self.costs, self.highest_cost))
        return float(np.sum(np.maximum(widths, 0) * (self.scores - self.worst)))


def find_front(costs: Array, scores: Array, worst: float, highest_cost: float) -> Front:
    """The configurations than which none is both cheaper and better."""
    order = np.lexsort((-scores, costs))
    front: list[int] = []
    for i in order:
        if scores[i] > (scores[front[-1]] if front else worst):
            front.append(int(i))
    return Front(costs[front], scores[front], worst, highest_cost)


def expected_improvement(front: Front, costs: Array, means: Array, deviations: Array) -> Array:
    """Expected growth of the hypervolume by each candidate; (candidates,).

    Args:
        costs: of the candidates, known; (candidates,).
        means: of what is believed of their scores; (candidates,).
        deviations: standard deviations of that; (candidates,).
    """
    starts = np.concatenate([[-np.inf], front.costs])
    ends = np.concatenate([front.costs, [front.highest_cost]])
    heights = np.concatenate([[front.worst], front.scores])
    widths = np.maximum(0.0, ends[None] - np.maximum(starts[None], costs[:, None]))
    sd = np.maximum(deviations, 1e-12)[:, None]
    gains = sd * expected_excess((means[:, None] - heights[None]) / sd)
    improvement: Array = np.sum(widths * gains, axis=1)
    return improvement
