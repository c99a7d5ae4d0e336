"""Likelihood of the right answers: what a model's outputs say of each example beside its answer.

A log-likelihood is in nats: the logarithm of the probability that the model gives to the right
answer. It is computed from what records keep, so records of any age have it.

Logits become probabilities by a temperature (Guo et al. 2017, arXiv:1706.04599), fitted on the
selection part of the same run. With the inverse temperature b its loss is

    sum_i [ logsumexp(b z_i) - b (q z_i,right + (1 - q) z_i,other) ],   q = (n + 1) / (n + 2)

which is convex in b. ``other`` is the most probable of the other labels: as if it had been right in
one of n + 2 examples (Platt 1999, for two labels the same). Without that b would be infinite where
all of a small selection part is answered correctly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from paretune.metrics.classification import multi_hot

if TYPE_CHECKING:
    from paretune.study import Answer

Array = NDArray[np.float64]

LEAST_TEMPERATURE = 1e-3
"""Logits are never multiplied by more than its inverse."""


class AnsweredPart(Protocol):
    """A part with what a run answered, as :class:`paretune.store.record.Predictions`."""

    @property
    def label(self) -> Sequence[Answer]:
        """(examples,)"""

    @property
    def prediction(self) -> Sequence[Answer]:
        """(examples,)"""

    @property
    def scores(self) -> Sequence[Sequence[float]]:
        """(examples, labels)"""


@dataclass(frozen=True)
class ExampleLikelihood:
    """How probable one run made the right answers.

    Attributes:
        log_likelihood: (examples,), nats; of texts summed over the target tokens; of numbers the
            logarithm of a density, whose level depends on the unit.
        weight: (examples,) what a mean divides by: 1, of texts the number of target tokens.
        brier: (examples,) squared distance of the probabilities from the right answer, summed over
            the labels, 0 to 2 (Brier 1950); None where answers are no labels.
        temperature: divides the logits; None where nothing is divided.
        deviation: standard deviation of the errors, in the unit of the numbers; None of others.
    """

    log_likelihood: Array
    weight: Array
    brier: Array | None = None
    temperature: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class NoLikelihood:
    """Why there is none."""

    reason: str


class FitLikelihood(Protocol):
    """How probable a run made the right answers of its test part."""

    def __call__(
        self, selection: AnsweredPart | None, test: AnsweredPart
    ) -> ExampleLikelihood | NoLikelihood:
        """The likelihood of ``test``.

        Args:
            selection: the run's own selection part, to fit what probabilities need; None where it
                is not stored, or is the test part itself.
        """


NO_SELECTION = NoLikelihood("no selection part apart from the test part, on which to fit it")


def label_likelihood(
    selection: AnsweredPart | None, test: AnsweredPart
) -> ExampleLikelihood | NoLikelihood:
    """Of labels and choices: softmax of the logits, with a temperature fitted on ``selection``.

    Of several labels each is a question of two answers: their log-likelihoods are summed, the Brier
    score is their mean.
    """
    if selection is None or not len(selection.label):
        return NO_SELECTION
    from scipy.special import log_softmax

    inverse = fit_inverse_temperature(*_logits(selection))
    scores, labels = _logits(test)
    log_probabilities = log_softmax(inverse * scores, axis=1)
    rows, shape = np.arange(len(labels)), (len(test.label), -1)
    right = np.zeros_like(scores)
    right[rows, labels] = 1.0
    squares = ((np.exp(log_probabilities) - right) ** 2).sum(axis=1)
    return ExampleLikelihood(
        log_likelihood=log_probabilities[rows, labels].reshape(shape).sum(axis=1),
        weight=np.ones(len(test.label)),
        brier=squares.reshape(shape).mean(axis=1),
        temperature=1 / inverse if inverse > 0 else float("inf"),
    )


def number_likelihood(
    selection: AnsweredPart | None, test: AnsweredPart
) -> ExampleLikelihood | NoLikelihood:
    """Of numbers: errors are Gaussian, with the variance that they have on ``selection``."""
    if selection is None or not len(selection.label):
        return NO_SELECTION
    variance = float(np.mean(_errors(selection) ** 2))
    if variance <= 0:
        return NoLikelihood("no error on the selection part, so the errors have no variance there")
    errors = _errors(test)
    return ExampleLikelihood(
        log_likelihood=-0.5 * (np.log(2 * np.pi * variance) + errors**2 / variance),
        weight=np.ones(len(errors)),
        deviation=variance**0.5,
    )


def text_likelihood(
    selection: AnsweredPart | None, test: AnsweredPart
) -> ExampleLikelihood | NoLikelihood:
    """Of texts: the stored log-likelihood of each reference token, given those before it.

    There is no temperature: logits of all tokens are too large to be kept.
    """
    if not all(len(tokens) for tokens in test.scores):
        return NoLikelihood("no probabilities of the reference's tokens are stored")
    return ExampleLikelihood(
        log_likelihood=np.array([sum(tokens) for tokens in test.scores], dtype=float),
        weight=np.array([len(tokens) for tokens in test.scores], dtype=float),
    )


def fit_inverse_temperature(logits: Array, labels: NDArray[np.int64]) -> float:
    """The inverse temperature that minimises the loss above, 0 or more.

    Shapes: ``logits`` (examples, labels), ``labels`` (examples,).
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    rows, count = np.arange(len(labels)), len(labels)
    rest = logits.copy()
    rest[rows, labels] = -np.inf
    share = (count + 1) / (count + 2)
    target = share * logits[rows, labels] + (1 - share) * rest.max(axis=1)

    def slope(inverse: float) -> float:
        return float(((softmax(inverse * logits, axis=1) * logits).sum(axis=1) - target).sum())

    highest = 1 / LEAST_TEMPERATURE
    if slope(0.0) >= 0:  # the right label has no higher logit than the others have on average
        return 0.0
    return highest if slope(highest) < 0 else float(brentq(slope, 0.0, highest, xtol=1e-12))


def _logits(part: AnsweredPart) -> tuple[Array, NDArray[np.int64]]:
    """Logits and the index of the right one, (questions, answers) and (questions,)."""
    scores = np.array(part.scores, dtype=float)
    if not isinstance(part.label[0], str):
        return scores, np.array(part.label, dtype=np.int64)
    pairs = np.stack([np.zeros(scores.size), scores.ravel()], axis=1)
    return pairs, multi_hot(part.label).ravel().astype(np.int64)


def _errors(part: AnsweredPart) -> Array:
    return np.array(part.prediction, dtype=np.float64) - np.array(part.label, dtype=np.float64)
