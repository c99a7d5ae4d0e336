"""Studies drawn from a world: answers of every seed, under a split or cross-validation.

A method may answer a constant with some seeds (it failed), and the training set shifts its ability:
part of the shift belongs to the whole data set, part to each fold. In regression the squared error
has a part that all methods share, with heavy tails, on skewed labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from verdicts.worlds import SEED_SD, Array, Contender, Steadiness, World, class_shifts, draw_ease

SHARED_TRAINING = 0.75
"""Share of the training set's variance that all folds of a data set have in common: the training
sets of two of five folds share three quarters of their rows."""


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
        ease = draw_ease(rng, rows) + class_shifts(world.priors)[labels]
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
            answer = np.where(right, labels, wrong)
            answer[_by_row(lost, folds, rows)] = 0
            answers[contender.name], failed[contender.name] = answer, lost
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
            answer = labels + error * np.sqrt(np.maximum(1 - score, 0.01))
            answer[_by_row(lost, folds, rows)] = 0.0
            answers[contender.name], failed[contender.name] = answer, lost
        return labels, answers, failed


def _draw_seeds(
    rng: np.random.Generator, steadiness: Steadiness | None, shape: tuple[int, ...]
) -> Array:
    if steadiness is None:
        return np.zeros(shape)
    noise = rng.standard_t(3, shape) if steadiness == "t3" else rng.normal(size=shape)
    return np.asarray(SEED_SD[steadiness] * noise)


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
