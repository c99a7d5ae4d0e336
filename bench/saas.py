"""A Gaussian process with a sparse axis-aligned prior, sampled by NUTS, and what to try next by it.

What AutoPEFT searches with, written anew from the papers: the prior of Eriksson and Jankowiak 2021
(SAASBO, arXiv:2103.00349), the no-U-turn sampler of Hoffman and Gelman 2014 (algorithm 6, step size
by dual averaging), noisy expected hypervolume improvement of Daulton et al. 2021
(arXiv:2105.08195). AutoPEFT models the cost too; here it is known, so that each draw of the scores
of what was tried has an improvement in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.stats import norm

from paretune.autopeft.acquisition import Front, expected_improvement, find_front

Array = NDArray[np.float64]
WARMUP, SAMPLES, THINNING = 128, 64, 4
"""Of the sampler, as AutoPEFT's settings have them."""
DRAWS = 8
"""Of the scores of what was tried, for each sample of the hyperparameters."""
_TARGET, _DEPTH, _JITTER, _LARGEST = 0.8, 6, 1e-6, 30.0


def transform_to_normal(values: Array) -> Array:
    """Normal scores of the quantiles of each value among all (a Gaussian copula)."""
    shares = np.searchsorted(np.sort(values), values, side="right") / len(values)
    scores: Array = norm.ppf(np.clip(shares, 1e-4, 1 - 1e-4))
    return scores


def log_posterior(q: Array, features: Array, scores: Array) -> tuple[float, Array]:
    """Of the unconstrained hyperparameters, up to a constant, and its gradient.

    Args:
        q: mean, and the logarithms of output scale, noise, tau squared, and of each feature's
            inverse squared length over tau squared; (4 + features,).
        features: (tried, features).
        scores: (tried,).
    """
    if np.abs(q).max() > _LARGEST:
        return -math.inf, np.zeros_like(q)
    scale, noise, tau = np.exp(q[1:4])
    ratios, inverse = np.exp(q[4:]), np.exp(q[3] + q[4:])
    d = np.sqrt(5 * _square_distances(features, features, inverse))
    decay = np.exp(-d)
    covariance = scale * (1 + d + d**2 / 3) * decay
    try:
        factor = cho_factor(covariance + (noise + _JITTER) * np.eye(len(d)), lower=True)
    except LinAlgError:
        return -math.inf, np.zeros_like(q)
    rest = scores - q[0]
    weights = cho_solve(factor, rest)
    value = -0.5 * rest @ weights - np.log(np.diag(factor[0])).sum()
    # Of the likelihood by each entry of the covariance, times that by the squared distance.
    by_entry = 0.5 * (np.outer(weights, weights) - cho_solve(factor, np.eye(len(d))))
    by_square = by_entry * (-scale * 5 / 6) * (1 + d) * decay
    sums = by_square.sum(1) @ features**2 - ((by_square @ features) * features).sum(0)
    by_length = 2 * inverse * sums
    gradient = np.concatenate(
        [
            [weights.sum(), (by_entry * covariance).sum(), noise * np.trace(by_entry)],
            [by_length.sum()],
            by_length,
        ]
    )
    # Normal(0, 1); Gamma(2, 0.15); Gamma(0.9, 10); half-Cauchy(0.1); half-Cauchy(1); each with the
    # Jacobian of the logarithm.
    tau_share, shares = (tau / 0.1) ** 2, ratios**2
    value += -0.5 * q[0] ** 2 + 2 * q[1] - 0.15 * scale + 0.9 * q[2] - 10 * noise
    value += q[3] - math.log1p(tau_share) + float((q[4:] - np.log1p(shares)).sum())
    gradient[:4] += [-q[0], 2 - 0.15 * scale, 0.9 - 10 * noise, 1 - 2 * tau_share / (1 + tau_share)]
    gradient[4:] += 1 - 2 * shares / (1 + shares)
    return float(value), gradient


def matern(a: Array, b: Array, q: Array) -> Array:
    """Covariances of two sets of points, Matern 5/2, with the hyperparameters ``q``."""
    d = np.sqrt(5 * _square_distances(a, b, np.exp(q[3] + q[4:])))
    covariances: Array = np.exp(q[1]) * (1 + d + d**2 / 3) * np.exp(-d)
    return covariances


def _square_distances(a: Array, b: Array, inverse: Array) -> Array:
    a, b = a * np.sqrt(inverse), b * np.sqrt(inverse)
    squares: Array = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.maximum(squares, 0.0)


LogDensity = Callable[[Array], tuple[float, Array]]
"""Logarithm of a density, and its gradient."""


@dataclass(frozen=True)
class State:
    """A point of a trajectory."""

    q: Array
    momentum: Array
    value: float
    gradient: Array

    @property
    def energy(self) -> float:
        """Logarithm of the density of position and momentum."""
        return self.value - 0.5 * float(self.momentum @ self.momentum)


@dataclass(frozen=True)
class Tree:
    """A part of a trajectory.

    Attributes:
        left: its first state.
        right: its last one.
        chosen: one drawn from those that the slice admits.
        count: how many these are.
        goes_on: whether it has neither turned nor left the density.
        accepted: sum over its states of the probability to accept each.
        tried: how many states it has.
    """

    left: State
    right: State
    chosen: State
    count: int
    goes_on: bool
    accepted: float
    tried: int

    @property
    def turns(self) -> bool:
        """Whether going on would come back."""
        across = self.right.q - self.left.q
        return bool(across @ self.left.momentum < 0 or across @ self.right.momentum < 0)


@dataclass(frozen=True)
class Trajectory:
    """What one draw of the no-U-turn sampler builds its trees with."""

    log_density: LogDensity
    rng: np.random.Generator
    step: float
    energy: float
    threshold: float

    def grow(self, start: State, depth: int, *, forward: bool) -> Tree:
        """A tree of ``2^depth`` states beyond ``start``."""
        if depth == 0:
            return self._leap(start, self.step if forward else -self.step)
        first = self.grow(start, depth - 1, forward=forward)
        if not first.goes_on:
            return first
        edge = first.right if forward else first.left
        second = self.grow(edge, depth - 1, forward=forward)
        count = first.count + second.count
        takes_second = count > 0 and self.rng.random() < second.count / count
        return self.join(first, second, second if takes_second else first, forward=forward)

    @staticmethod
    def join(first: Tree, second: Tree, chosen: Tree, *, forward: bool) -> Tree:
        """Both as one."""
        left, right = (first, second) if forward else (second, first)
        whole = Tree(
            left.left,
            right.right,
            chosen.chosen,
            first.count + second.count,
            second.goes_on,
            first.accepted + second.accepted,
            first.tried + second.tried,
        )
        return replace(whole, goes_on=whole.goes_on and not whole.turns)

    def _leap(self, start: State, step: float) -> Tree:
        half = start.momentum + 0.5 * step * start.gradient
        q = start.q + step * half
        value, gradient = self.log_density(q)
        state = State(q, half + 0.5 * step * gradient, value, gradient)
        share = math.exp(min(0.0, state.energy - self.energy))
        admitted = int(state.energy > self.threshold)
        goes_on = state.energy > self.threshold - 1000
        return Tree(state, state, state, admitted, goes_on, share, 1)


def sample_nuts(
    log_density: LogDensity, start: Array, warmup: int, samples: int, rng: np.random.Generator
) -> Array:
    """Draws from a density by the no-U-turn sampler; (samples, dimensions)."""
    value, gradient = log_density(start)
    state = State(start, np.zeros_like(start), value, gradient)
    step, mean_error, log_mean = 0.1, 0.0, 0.0
    shrunk_to = math.log(10 * step)
    draws = []
    for m in range(1, warmup + samples + 1):
        state = replace(state, momentum=rng.normal(size=len(start)))
        energy = state.energy
        trajectory = Trajectory(log_density, rng, step, energy, energy - rng.exponential())
        tree = Tree(state, state, state, 1, goes_on=True, accepted=0.0, tried=0)
        for depth in range(_DEPTH):
            forward = bool(rng.random() < 0.5)
            edge = tree.right if forward else tree.left
            added = trajectory.grow(edge, depth, forward=forward)
            takes = added.goes_on and rng.random() < added.count / tree.count
            tree = Trajectory.join(tree, added, added if takes else tree, forward=forward)
            if not tree.goes_on:
                break
        state = tree.chosen
        if m > warmup:
            draws.append(state.q)
            continue
        weight = 1 / (m + 10)
        mean_error += weight * (_TARGET - tree.accepted / tree.tried - mean_error)
        log_step = shrunk_to - math.sqrt(m) / 0.05 * mean_error
        log_mean += m**-0.75 * (log_step - log_mean)
        step = math.exp(log_mean if m == warmup else log_step)
    return np.array(draws)


def fit_saas(
    features: Array,
    scores: Array,
    seed: int,
    *,
    warmup: int = WARMUP,
    samples: int = SAMPLES,
    thinning: int = THINNING,
) -> Array:
    """Hyperparameters by :func:`log_posterior`; (samples / thinning, 4 + features).

    Args:
        features: of what was tried, between 0 and 1; (tried, features).
        scores: standard; (tried,).
    """
    start = np.concatenate([[0.0, 0.0, -3.0, -2.0], np.zeros(features.shape[1])])
    draws = sample_nuts(
        lambda q: log_posterior(q, features, scores),
        start,
        warmup,
        samples,
        np.random.default_rng(seed),
    )
    return draws[::thinning]


class NoisyImprovement:
    """Expected growth of the front, over what its scores may truly be.

    Args:
        features: of what was tried and of what is to be tried beside it, (points, features).
        scores: of what was tried, (tried,); the first of the points.
        costs: of all points, known; (points,).
        worst: score from which the area counts.
        highest_cost: where it ends.
    """

    def __init__(
        self,
        hyperparameters: Array,
        features: Array,
        scores: Array,
        costs: Array,
        worst: float,
        highest_cost: float,
        rng: np.random.Generator,
    ) -> None:
        self._points = features
        self._samples: list[tuple[Array, Array, Array]] = []
        self._fronts: list[list[Front]] = []
        tried = len(scores)
        for q in hyperparameters:
            prior = matern(features, features, q)
            noisy = prior[:tried, :tried] + (np.exp(q[2]) + _JITTER) * np.eye(tried)
            gain = np.linalg.solve(noisy, prior[:tried]).T
            small = 1e-5 * np.exp(q[1]) * np.eye(len(prior))
            root = np.linalg.cholesky(prior - gain @ prior[:tried] + small)
            draws = root @ rng.normal(size=(len(prior), DRAWS))
            truths = (q[0] + gain @ (scores - q[0]))[:, None] + draws
            inverse = np.linalg.inv(prior + small)
            self._samples.append((q, inverse, inverse @ (truths - q[0])))
            self._fronts.append([find_front(costs, t, worst, highest_cost) for t in truths.T])

    def __call__(self, features: Array, costs: Array) -> Array:
        """Of candidates; (candidates,)."""
        total = np.zeros(len(features))
        for (q, inverse, weights), fronts in zip(self._samples, self._fronts, strict=True):
            covariance = matern(features, self._points, q)
            means = q[0] + covariance @ weights
            variance = np.exp(q[1]) - ((covariance @ inverse) * covariance).sum(1)
            deviations = np.sqrt(np.maximum(variance, 0.0))
            for front, mean in zip(fronts, means.T, strict=True):
                total += expected_improvement(front, costs, mean, deviations)
        return total / (DRAWS * len(self._samples))
