"""Worlds whose true scores are known: how able each method is, and how its seeds behave.

Classification follows item response theory: an example has an ease that all methods share
(heavy-tailed, and lower for rarer classes), each method finds some examples easier than others do
(its interaction), a seed shifts its method's ability, and the answer is right with the logistic
probability of their sum. Wrong answers follow the class priors. Abilities are solved for, so that
true scores are exactly what they have to be.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from paretune import metrics

Array = NDArray[Any]
Steadiness = Literal["calm", "norm", "t3"]

SEED_SD = {"calm": 0.09, "norm": 0.30, "t3": 0.30 / 3**0.5}
"""Of the ability in logits; about 1.5, 5 and 5 points of accuracy. ``t3``: Student's, 3 df."""
_POOL = 20_000


@dataclass(frozen=True)
class Contender:
    """A method, and how its seeds behave.

    Attributes:
        name: of the method or baseline.
        score: its true score: of runs that train, or with failures (``World.failures_in``).
        steadiness: of its seeds; None if nothing is drawn, so that one run is enough.
        failing: chance that a seed answers a constant.
    """

    name: str
    score: float
    steadiness: Steadiness | None = "calm"
    failing: float = 0.0


@dataclass(frozen=True)
class World:
    """What studies are drawn from.

    Attributes:
        contenders: methods and baselines; ``majority`` is added where studies are made.
        metric: accuracy, macro_f1, accuracy_f1 or r2.
        priors: of the classes, most frequent first.
        interaction: sd of method x example, in logits.
        training: sd of the training set's shift of each method, in logits.
        cluster: examples of a cluster; 1: independent.
        failures_in: whether a contender's score is the expected one, failures included.
    """

    contenders: tuple[Contender, ...]
    metric: str = "accuracy"
    priors: tuple[float, ...] = (0.5, 0.5)
    interaction: float = 0.8
    training: float = 0.0
    cluster: int = 1
    failures_in: bool = False

    @functools.cached_property
    def abilities(self) -> dict[str, float]:
        """Of each contender: where its true score is exactly what it has to be."""
        return {c.name: self._solve(c) for c in self.contenders}

    @property
    def constant_score(self) -> float:
        """Of a failed seed."""
        return 0.0 if self.metric == "r2" else score_constant(self.priors, self.metric)

    def trained_score(self, contender: Contender) -> float:
        """The true score of its runs that train."""
        if not self.failures_in:
            return contender.score
        lost = contender.failing * self.constant_score
        return (contender.score - lost) / (1 - contender.failing)

    def expected_score(self, contender: Contender) -> float:
        """The true score of its next run, which may fail."""
        failing = contender.failing
        return (1 - failing) * self.trained_score(contender) + failing * self.constant_score

    def _solve(self, contender: Contender) -> float:
        target = self.trained_score(contender)
        if self.metric == "r2":
            return target
        latent = contender.steadiness, self.training, self.interaction, self.cluster
        abilities, scores = _scores_by_ability(*latent, self.priors, self.metric)
        if not scores[0] < target < scores[-1]:
            raise ValueError(f"{contender.name}: no ability scores {target:.3f}")
        return float(np.interp(target, scores, abilities))


def score_constant(priors: Sequence[float], metric: str) -> float:
    """Of answering the most frequent class always."""
    right = np.zeros(len(priors))
    right[0] = 1.0
    predicted = np.zeros(len(priors))
    predicted[0] = 1.0
    sums = np.concatenate([right * np.asarray(priors), predicted, np.asarray(priors)])
    return float(metrics.get(metric).from_sums(sums))


def _score_of_shares(right: Array, priors: Sequence[float], metric: str) -> Array:
    """From shares of right answers by class, (..., classes), to scores, (...)."""
    true = np.asarray(priors)
    spread = true / (1 - true)[:, None]
    np.fill_diagonal(spread, 0.0)
    hits = right * true
    predicted = hits + ((1 - right) * true) @ spread
    sums = np.concatenate([hits, predicted, np.broadcast_to(true, hits.shape)], axis=-1)
    return metrics.get(metric).from_sums(sums)


def draw_ease(rng: np.random.Generator, rows: int) -> Array:
    """Four in five normal with sd 1.6, the others Student's with 3 degrees of freedom."""
    return np.where(rng.random(rows) < 0.8, rng.normal(0, 1.6, rows), rng.standard_t(3, rows))


def class_shifts(priors: Sequence[float]) -> Array:
    """A class of half the frequency is half a logit harder."""
    return np.asarray(0.5 * np.log2(np.asarray(priors) / max(priors)))


def _seed_quantiles(steadiness: Steadiness | None) -> Array:
    if steadiness is None:
        return np.zeros(1)
    if steadiness != "t3":
        return _normal_quantiles(99) * SEED_SD[steadiness]
    return np.asarray(special.stdtrit(3, (np.arange(999) + 0.5) / 999) * SEED_SD["t3"])


def _normal_quantiles(count: int) -> Array:
    quantiles = special.ndtri((np.arange(count) + 0.5) / count)
    return np.asarray(quantiles / quantiles.std())


@functools.lru_cache(maxsize=64)
def _scores_by_ability(
    steadiness: Steadiness | None,
    training: float,
    interaction: float,
    cluster: int,
    priors: tuple[float, ...],
    metric: str,
) -> tuple[Array, Array]:
    """A grid of abilities, and the expected score of a run at each."""
    shifts = _seed_quantiles(steadiness)
    if training:
        shifts = (shifts[:, None] + _normal_quantiles(25) * training).ravel()
    grid, rights = _right_by_ability(interaction, cluster, priors)
    abilities = np.linspace(-4, 8, 601)
    scores = []
    for ability in abilities:
        right = np.stack([np.interp(ability + shifts, grid, column) for column in rights], axis=-1)
        scores.append(float(_score_of_shares(right, priors, metric).mean()))
    increasing = np.maximum.accumulate(scores)
    return abilities, increasing


@functools.lru_cache(maxsize=16)
def _right_by_ability(
    interaction: float, cluster: int, priors: tuple[float, ...]
) -> tuple[Array, Array]:
    """A grid of abilities, and the share of right answers of each class there."""
    rng = np.random.default_rng(17)
    sd = interaction * (2**0.5 if cluster > 1 else 1.0)
    latent = draw_ease(rng, _POOL) + rng.normal(0, sd, _POOL)
    if cluster > 1:
        latent = latent + rng.normal(0, 1.0, _POOL)
    # Both signs: no class may gain by the luck of the pool.
    latent = np.concatenate([latent, -latent])
    grid = np.linspace(-12, 14, 261)
    right = np.array([(1 / (1 + np.exp(-(latent + a)))).mean() for a in grid])
    return grid, np.stack([np.interp(grid + s, grid, right) for s in class_shifts(priors)])
