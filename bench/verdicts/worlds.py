"""Studies drawn from worlds whose true scores are exact by construction.

A run of a method has an accuracy, drawn around the method's own. Each of its answers has a latent
difficulty: an ease of the row that all methods share (bimodal, 45 % of the variance), what the
method makes of the row (25 %) and noise of the single answer (30 %). The answer is right where the
difficulty lies under the quantile of the run's accuracy. In regression, squared errors have a part
that all methods share, with heavy tails, on skewed labels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from paretune import metrics

Array = NDArray[Any]

NEAR_SHARE = 0.94
"""Of the rows, what a nearly collapsed run answers with one label."""


@dataclass(frozen=True)
class Contender:
    """A method or baseline, and how its runs behave.

    Attributes:
        score: accuracy of the runs that train, in the mean; R2 in regression.
        seed_sd: between runs; None: nothing is drawn, so that one run is enough.
        heavy_tailed: Student's t with 3 degrees of freedom in place of the normal distribution.
        failing: chance that a run answers a constant.
        near: chance that a run nearly does: it counts as trained.
    """

    name: str
    score: float
    seed_sd: float | None = 0.01
    heavy_tailed: bool = False
    failing: float = 0.0
    near: float = 0.0


@dataclass(frozen=True)
class Truth:
    """True scores of a method's runs that train, and of its next run, which may fail."""

    trained: float
    expected: float


@dataclass(frozen=True)
class World:
    """What studies are drawn from.

    Attributes:
        priors: of the classes, most frequent first.
        training: sd of what a training set does to a method: in all folds alike, and by fold.
        cluster: rows of a cluster, which share their ease; 1: independent.
    """

    contenders: tuple[Contender, ...]
    metric: str = "accuracy"
    priors: tuple[float, ...] = (0.5, 0.5)
    training: tuple[float, float] = (0.0, 0.0)
    cluster: int = 1

    @functools.cached_property
    def truths(self) -> dict[str, Truth]:
        """Of every contender."""
        return {c.name: self._truth(c) for c in self.contenders}

    def _truth(self, contender: Contender) -> Truth:
        runs = _shift(contender.score, _seed_quantiles(contender))
        if self.metric == "r2":
            trained, constant = float(runs.mean()), 0.0
        else:
            first = np.eye(len(self.priors))[0]
            trained = float(self._score(runs[:, None] * np.ones(len(first))).mean())
            near = float(self._score(NEAR_SHARE * first + (1 - NEAR_SHARE) * contender.score))
            trained += contender.near * (near - trained)
            constant = float(self._score(first))
        return Truth(trained, trained + contender.failing * (constant - trained))

    def _score(self, right: Array) -> Array:
        """The metric of many rows of which these shares, (..., classes), are answered rightly."""
        priors = np.asarray(self.priors)
        hits = right * priors
        predicted = hits + ((1 - right) * priors) @ _wrong_shares(self.priors)
        sums = np.concatenate([hits, predicted, np.broadcast_to(priors, hits.shape)], axis=-1)
        return metrics.get(self.metric).from_sums(sums)


@dataclass(frozen=True)
class Design:
    """Split: ``seeds`` runs that answer all ``rows``. Cross-validation: ``folds`` > 0."""

    rows: int
    seeds: int
    folds: int = 0

    @property
    def repeats(self) -> int:
        """Passes over all rows under cross-validation."""
        return self.seeds // self.folds if self.folds else 0


@dataclass(frozen=True)
class Drawn:
    """One study: answers of every contender.

    Attributes:
        labels: (rows,)
        answers: of each contender, (seeds, rows); under cross-validation (repeats, rows).
        folds: (repeats, rows): the fold of each row; None under the split.
        clusters: (rows,), or None.
    """

    labels: Array
    answers: Mapping[str, Array]
    folds: Array | None = None
    clusters: Array | None = None

    @property
    def num_folds(self) -> int:
        """Folds of the cross-validation; 0 under the split."""
        return 0 if self.folds is None else int(self.folds.max()) + 1


def draw_study(world: World, design: Design, rng: np.random.Generator) -> Drawn:
    """A study of ``design``."""
    rows = design.rows
    cluster = np.arange(rows) // world.cluster
    folds = None
    if design.folds:
        orders = [rng.permutation(cluster[-1] + 1) % design.folds for _ in range(design.repeats)]
        folds = np.stack(orders)[:, cluster]
    if world.metric == "r2":
        labels: Array = (rng.gamma(2.0, 1.0, rows) - 2.0) / 2**0.5
        shared = _draw_errors(rng, (rows,))
    else:
        labels = rng.choice(len(world.priors), rows, p=world.priors)
        labels[:2] = 0, 1  # a study of one class is none
        shared = _draw_ease(rng, cluster[-1] + 1)[cluster]
    answers = {}
    for contender in world.contenders:
        scores, lost, near = (
            by_run[:, None]
            if folds is None
            else np.take_along_axis(by_run, folds[: len(by_run)], axis=1)
            for by_run in _draw_runs(contender, world, design, rng)
        )
        shape = (len(scores), rows)
        if world.metric == "r2":
            error = 0.7**0.5 * shared + 0.3**0.5 * _draw_errors(rng, shape)
            answer = labels + error * np.sqrt(np.maximum(1 - scores, 0.01))
        else:
            taste = 0.5**0.5 * (rng.normal(size=cluster[-1] + 1)[cluster] + rng.normal(size=rows))
            right = _latent(shared, taste, rng.normal(size=shape)) < np.quantile(_pool(), scores)
            answer = np.where(right, labels, _draw_wrong(rng, world.priors, labels, shape))
            answer = np.where(near & (rng.random(shape) < NEAR_SHARE), 0, answer)
        answers[contender.name] = np.where(lost, 0, answer)
    return Drawn(labels, answers, folds, cluster if world.cluster > 1 else None)


def _draw_runs(
    contender: Contender, world: World, design: Design, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Scores of the runs, which failed, and which nearly did: (seeds,) or (repeats, folds)."""
    shape = (design.repeats, design.folds) if design.folds else (design.seeds,)
    shared, by_fold = (rng.normal(size=n) for n in ((1,), shape if design.folds else (1,)))
    shift = world.training[0] * shared + world.training[1] * by_fold
    if contender.seed_sd is None:
        shift, shape = shift[:1], (1, *shape[1:])
    else:
        noise = (
            rng.standard_t(3, shape) / 3**0.5 if contender.heavy_tailed else rng.normal(size=shape)
        )
        shift = shift + contender.seed_sd * noise
    lost = rng.random(shape) < contender.failing
    near = rng.random(shape) < contender.near
    return np.broadcast_to(_shift(contender.score, shift), shape), lost, near


def _shift(score: float, shift: Array) -> Array:
    """The score, shifted to at most 0.98; downwards by no more, so that the mean stays."""
    room = max(0.0, min(score - 0.02, 0.98 - score))
    return np.asarray(score + np.clip(shift, -room, room))


def _seed_quantiles(contender: Contender) -> Array:
    if contender.seed_sd is None:
        return np.zeros(1)
    places = (np.arange(999) + 0.5) / 999
    noise = special.stdtrit(3, places) / 3**0.5 if contender.heavy_tailed else special.ndtri(places)
    return np.asarray(contender.seed_sd * noise)


def _draw_ease(rng: np.random.Generator, count: int) -> Array:
    """Two humps; mean 0, variance 1."""
    return np.asarray(0.8 * rng.choice([-1.0, 1.0], count) + 0.6 * rng.normal(size=count))


def _latent(ease: Array, taste: Array, noise: Array) -> Array:
    return np.asarray(0.45**0.5 * ease + 0.25**0.5 * taste + 0.3**0.5 * noise)


@functools.cache
def _pool() -> Array:
    """Difficulties of many answers, whose quantiles are those of all; symmetric about 0."""
    rng = np.random.default_rng(17)
    drawn = _latent(_draw_ease(rng, 100_000), *rng.normal(size=(2, 100_000)))
    return np.sort(np.concatenate([drawn, -drawn]))


def _draw_errors(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Heavy-tailed, of variance 1."""
    return np.asarray(rng.standard_t(5, shape) / (5 / 3) ** 0.5)


def _wrong_shares(priors: Sequence[float]) -> Array:
    """What a wrong answer to each class is, (classes, classes): by the priors of the rest."""
    shares = np.tile(np.asarray(priors), (len(priors), 1))
    np.fill_diagonal(shares, 0.0)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _draw_wrong(
    rng: np.random.Generator, priors: Sequence[float], labels: Array, shape: tuple[int, ...]
) -> Array:
    if len(priors) == 2:
        return np.broadcast_to(1 - labels, shape)
    limits = np.cumsum(_wrong_shares(priors), axis=1)[labels]
    return np.asarray((rng.random((*shape, 1)) > limits).sum(axis=-1))
