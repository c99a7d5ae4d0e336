"""Predicts scores of configurations that a search has not tried, and how far they raise its front.

**Scores** are a Gaussian process (Rasmussen and Williams 2006, chapter 2): Matern 5/2 with a length
for each feature, and the noise of each score as it is known: of the examples of the selection part,
and of seeds. The posterior mean of a configuration that was tried is its estimate, never its raw
score: the highest raw score of many equal configurations is far too high (the winner's curse).

**Improvement** is the expected growth of the hypervolume in closed form. Emmerich et al. 2006 (doi
10.1109/TEVC.2005.859463) define it for objectives that are all uncertain. Here the cost of a
configuration is known before it runs, so only its score is: at cost c(x) it can raise the front
over all higher costs, and the improvement is a sum over the front's steps j of width w_j right of
c(x) and height q_j,

    EHVI(x) = sum_j w_j [ (mu - q_j) Phi(z_j) + sd phi(z_j) ],   z_j = (mu - q_j) / sd,

the expected improvement over each step times its width (Mockus 1975; Jones, Schonlau and Welch
1998, doi 10.1023/A:1008306431147).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretune.analysis.pareto.front import expected_excess

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surrogate:
    """A fitted model of scores.

    Attributes:
        process: a regressor of scikit-learn, of standardised scores.
        mean: of the scores it was fitted to.
        scale: their standard deviation.
        noise: variance of a standardised score that its examples do not explain: that of seeds.
    """

    process: Any
    mean: float
    scale: float
    noise: float

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Posterior means and standard deviations of the true scores; (configurations,) each."""
        means, deviations = self.process.predict(features, return_std=True)
        # scikit-learn gives the deviation of one more noisy score.
        true = np.sqrt(np.maximum(deviations**2 - self.noise, 1e-12))
        return self.mean + self.scale * means, self.scale * true


def fit_surrogate(
    features: Array, scores: Array, variances: Array, like: Surrogate | None = None
) -> Surrogate:
    """Fit a Gaussian process.

    Args:
        like: a model whose kernel is taken as it is, and its scale.
        features: (tried, features), between 0 and 1.
        scores: of the selection part, (tried,).
        variances: of these scores over the examples, (tried,); what seeds add is fitted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    mean, scale = float(np.mean(scores)), float(np.std(scores)) or 1.0
    if like is not None:
        mean, scale = like.mean, like.scale
    smooth = ConstantKernel(1.0, (0.05, 20.0)) * Matern(
        np.full(features.shape[1], 1.5), (0.2, 30.0), nu=2.5
    )
    kernel = smooth + WhiteKernel(0.1, (1e-4, 1.0))
    alpha = np.maximum(variances / scale**2, 1e-6)
    process = GaussianProcessRegressor(kernel, alpha=alpha)
    if like is not None:
        process = GaussianProcessRegressor(like.process.kernel_, alpha=alpha, optimizer=None)
    with warnings.catch_warnings():
        # A feature that says nothing ends at the longest length, as it should.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(features, (scores - mean) / scale)
    return Surrogate(process, mean, scale, float(process.kernel_.k2.noise_level))


def expected_maximum(count: int) -> float:
    """Expected largest of ``count`` independent standard normal numbers (Blom 1958)."""
    return 0.0 if count < 2 else NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


def expected_optimism(count: int, variance: float) -> float:
    """The mean excess of the best raw score of ``count`` equal configurations.

    ``variance``: that of one score, over examples of the selection part and over seeds.
    """
    return expected_maximum(count) * math.sqrt(variance)


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


def list_front(costs: Sequence[float] | Array, scores: Sequence[float] | Array) -> list[int]:
    """Places of the configurations than which none is cheaper and as good, the cheapest first."""
    front: list[int] = []
    for n in sorted(range(len(costs)), key=lambda n: (costs[n], -scores[n])):
        if not front or scores[n] > scores[front[-1]]:
            front.append(n)
    return front


def find_front(costs: Array, scores: Array, worst: float, highest_cost: float) -> Front:
    """The front of configurations that are better than ``worst``."""
    front = [n for n in list_front(costs, scores) if scores[n] > worst]
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
