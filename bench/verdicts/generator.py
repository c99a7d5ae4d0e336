"""Studies drawn from a world whose true scores are known.

Classification follows item response theory: an example has an ease that all methods share
(heavy-tailed, and lower for rarer classes), each method finds some examples easier than others do
(its interaction), a seed shifts its method's ability, and the answer is right with the logistic
probability of their sum. Wrong answers follow the class priors. In regression the squared error
has a part that all methods share, with heavy tails, on skewed labels.

A method may answer a constant with some seeds (it failed), and the training set shifts its ability:
part of the shift belongs to the whole data set, part to each fold.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from paretune import metrics

Array = NDArray[Any]
Steadiness = Literal["calm", "norm", "t3"]

_SEED_SD = {"calm": 0.09, "norm": 0.30, "t3": 0.30 / 3**0.5}
"""Of the ability in logits; about 1.5, 5 and 5 points of accuracy. ``t3``: Student's, 3 df."""
SHARED_TRAINING = 0.75
"""Share of the training set's variance that all folds of a data set have in common: the training
sets of two of five folds share three quarters of their rows."""
_POOL = 20_000


@dataclass(frozen=True)
class Contender:
    """A method, and how its seeds behave.

    Attributes:
        name: of the method or baseline.
        score: its true score: of runs that train, or expected with failures (``World.failures_in``).
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
        wanted = self.trained_score(contender)
        if self.metric == "r2":
            return wanted
        given = contender.steadiness, self.training, self.interaction, self.cluster
        abilities, scores = _scores_by_ability(*given, self.priors, self.metric)
        if not scores[0] < wanted < scores[-1]:
            raise ValueError(f"{contender.name}: no ability scores {wanted:.3f}")
        return float(np.interp(wanted, scores, abilities))


@dataclass(frozen=True)
class Drawn:
    """One study: answers of every contender.

    Attributes:
        labels: (rows,)
        answers: of each contender, (seeds, rows); under cross-validation (repeats, rows).
        failed: of each contender, (seeds,) or (repeats, folds).
        folds: (repeats, rows): the fold of each row; None under the split.
        clusters: (rows,), or None.
    """

    labels: Array
    answers: dict[str, Array]
    failed: dict[str, Array]
    folds: Array | None = None
    clusters: Array | None = None

    @property
    def num_folds(self) -> int:
        """Folds of the cross-validation; 0 under the split."""
        return 0 if self.folds is None else int(self.folds.max()) + 1


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


@dataclass
class Generator:
    """Draws studies of one world, always the same for the same seed."""

    world: World
    design: Design
    seed: Sequence[int]
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(list(self.seed))

    def draw(self) -> Drawn:
        """The next study."""
        rows = self.design.rows
        clusters = None
        if self.world.cluster > 1:
            clusters = np.arange(rows) // self.world.cluster
        folds = self._draw_folds(clusters)
        draw = self._draw_numbers if self.world.metric == "r2" else self._draw_labels
        labels, answers, failed = draw(folds, clusters)
        return Drawn(labels, answers, failed, folds, clusters)

    def _draw_folds(self, clusters: Array | None) -> Array | None:
        design = self.design
        if not design.folds:
            return None
        units = design.rows if clusters is None else int(clusters.max()) + 1
        orders = [self.rng.permutation(units) % design.folds for _ in range(design.repeats)]
        folds = np.stack(orders)
        return folds if clusters is None else folds[:, clusters]

    def _draw_labels(
        self, folds: Array | None, clusters: Array | None
    ) -> tuple[Array, dict[str, Array], dict[str, Array]]:
        world, rng, rows = self.world, self.rng, self.design.rows
        labels = rng.choice(len(world.priors), rows, p=world.priors)
        if len(set(labels.tolist())) < 2:
            labels[0] = 1 - min(int(labels[0]), 1)
        ease = _draw_ease(rng, rows) + _class_shifts(world.priors)[labels]
        if clusters is not None:
            ease = ease + rng.normal(0, 1.0, int(clusters.max()) + 1)[clusters]
        others = _other_classes(world.priors)
        answers, failed = {}, {}
        for contender in world.contenders:
            latent = ease + self._interact(clusters)
            shift, lost = self._shifts(contender, folds)
            ability = world.abilities[contender.name]
            chance = 1 / (1 + np.exp(-(latent + ability + shift)))
            right = rng.random(chance.shape) < chance
            wrong = _wrong_answers(rng, others, labels, right.shape)
            given = np.where(right, labels, wrong)
            given[_by_row(lost, folds, rows)] = 0
            answers[contender.name], failed[contender.name] = given, lost
        return labels, answers, failed

    def _interact(self, clusters: Array | None) -> Array:
        world, rng = self.world, self.rng
        own = rng.normal(0, world.interaction, self.design.rows)
        if clusters is None:
            return own
        shared = rng.normal(0, world.interaction, int(clusters.max()) + 1)
        return np.asarray(own + shared[clusters])

    def _shifts(self, contender: Contender, folds: Array | None) -> tuple[Array, Array]:
        """Of the ability: (runs or repeats, rows or 1); and which runs failed."""
        rng, design, training = self.rng, self.design, self.world.training
        shared = rng.normal(0, training * SHARED_TRAINING**0.5) if training else 0.0
        own = training * (1 - SHARED_TRAINING) ** 0.5
        if folds is None:
            runs = 1 if contender.steadiness is None else design.seeds
            by_run = _draw_seeds(rng, contender.steadiness, (runs,))
            # One training set: its whole shift is the same for all seeds.
            by_run = by_run + shared + (rng.normal(0, own) if training else 0.0)
            return by_run[:, None], rng.random(runs) < contender.failing
        shape = (1 if contender.steadiness is None else design.repeats, design.folds)
        by_fold = _draw_seeds(rng, contender.steadiness, shape) + shared
        if training:
            by_fold = by_fold + rng.normal(0, own, shape)
        lost = rng.random(shape) < contender.failing
        return np.take_along_axis(by_fold, folds[: shape[0]], axis=1), lost

    def _draw_numbers(
        self, folds: Array | None, clusters: Array | None
    ) -> tuple[Array, dict[str, Array], dict[str, Array]]:
        """Skewed labels of variance 1; errors of which 70 % are shared, with heavy tails."""
        world, rng, rows = self.world, self.rng, self.design.rows
        labels = (rng.gamma(2.0, 1.0, rows) - 2.0) / 2**0.5
        shared = rng.standard_t(5, rows) / (5 / 3) ** 0.5
        answers, failed = {}, {}
        for contender in world.contenders:
            shift, lost = self._shifts(contender, folds)
            # A logit is about 17 points of R2 here, as it is of accuracy near three quarters.
            score = world.abilities[contender.name] + 0.17 * shift
            own = rng.standard_t(5, (shift.shape[0], rows)) / (5 / 3) ** 0.5
            error = 0.7**0.5 * shared + 0.3**0.5 * own
            given = labels + error * np.sqrt(np.maximum(1 - score, 0.01))
            given[_by_row(lost, folds, rows)] = 0.0
            answers[contender.name], failed[contender.name] = given, lost
        return labels, answers, failed


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


def _draw_ease(rng: np.random.Generator, rows: int) -> Array:
    """Four in five normal with sd 1.6, the others Student's with 3 degrees of freedom."""
    return np.where(rng.random(rows) < 0.8, rng.normal(0, 1.6, rows), rng.standard_t(3, rows))


def _class_shifts(priors: Sequence[float]) -> Array:
    """A class of half the frequency is half a logit harder."""
    return np.asarray(0.5 * np.log2(np.asarray(priors) / max(priors)))


def _draw_seeds(
    rng: np.random.Generator, steadiness: Steadiness | None, shape: tuple[int, ...]
) -> Array:
    if steadiness is None:
        return np.zeros(shape)
    noise = rng.standard_t(3, shape) if steadiness == "t3" else rng.normal(size=shape)
    return np.asarray(_SEED_SD[steadiness] * noise)


def _seed_quantiles(steadiness: Steadiness | None) -> Array:
    from scipy import special

    if steadiness is None:
        return np.zeros(1)
    if steadiness != "t3":
        return _normal_quantiles(99) * _SEED_SD[steadiness]
    return np.asarray(special.stdtrit(3, (np.arange(999) + 0.5) / 999) * _SEED_SD["t3"])


def _normal_quantiles(count: int) -> Array:
    from scipy import special

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
    latent = _draw_ease(rng, _POOL) + rng.normal(0, sd, _POOL)
    if cluster > 1:
        latent = latent + rng.normal(0, 1.0, _POOL)
    # Both signs: no class may gain by the luck of the pool.
    latent = np.concatenate([latent, -latent])
    grid = np.linspace(-12, 14, 261)
    right = np.array([(1 / (1 + np.exp(-(latent + a)))).mean() for a in grid])
    return grid, np.stack([np.interp(grid + s, grid, right) for s in _class_shifts(priors)])


def _other_classes(priors: Sequence[float]) -> Array:
    """Cumulative chances of a wrong answer, by true class: (classes, classes)."""
    chances = np.tile(np.asarray(priors), (len(priors), 1))
    np.fill_diagonal(chances, 0.0)
    return np.asarray(np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1))


def _wrong_answers(
    rng: np.random.Generator, others: Array, labels: Array, shape: tuple[int, ...]
) -> Array:
    if len(others) == 2:
        return np.broadcast_to(1 - labels, shape)
    return np.asarray((rng.random((*shape, 1)) > others[labels]).sum(axis=-1))


def _by_row(lost: Array, folds: Array | None, rows: int) -> Array:
    """Which answers are those of failed runs: (runs or repeats, rows)."""
    if folds is None:
        return np.broadcast_to(lost[:, None], (len(lost), rows))
    return np.take_along_axis(lost, folds[: len(lost)], axis=1)
