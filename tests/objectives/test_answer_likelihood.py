"""Likelihood of the right answers, against SciPy and scikit-learn, and at its edges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn.metrics import log_loss

from paretune import objectives
from paretune.objectives.likelihood import (
    ExampleLikelihood,
    NoLikelihood,
    fit_inverse_temperature,
    label_likelihood,
    number_likelihood,
    text_likelihood,
)


@dataclass
class Part:
    label: list[float]
    prediction: list[float]
    scores: list[list[float]] = field(default_factory=list)


def draw_part(n: int, labels: int = 3, sharpness: float = 3.0, seed: int = 0) -> Part:
    """Labels are drawn from the softmax of logits, which are reported ``sharpness`` times."""
    rng = np.random.default_rng([seed, n, labels])
    logits = rng.normal(0, 1.5, (n, labels))
    label = [int(rng.choice(labels, p=row)) for row in special.softmax(logits, axis=1)]
    return Part([*label], [*logits.argmax(1)], (sharpness * logits).tolist())


def likelihood(result: ExampleLikelihood | NoLikelihood) -> ExampleLikelihood:
    assert isinstance(result, ExampleLikelihood)
    return result


def test_the_temperature_undoes_overconfidence() -> None:
    result = likelihood(label_likelihood(draw_part(4000, sharpness=3.0), draw_part(50)))
    assert result.temperature == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("labels", [2, 3, 7])
def test_the_temperature_is_the_minimum_that_scipy_finds(labels: int) -> None:
    part = draw_part(60, labels)
    logits, label = np.array(part.scores), np.array(part.label, dtype=int)
    rows, share = np.arange(60), 61 / 62
    others = logits.copy()
    others[rows, label] = -np.inf

    def loss(inverse: float) -> float:
        log_p = special.log_softmax(inverse * logits, axis=1)
        runner_up = log_p[rows, others.argmax(1)]
        return float(-(share * log_p[rows, label] + (1 - share) * runner_up).sum())

    optimum = optimize.minimize_scalar(loss, bounds=(0, 10), options={"xatol": 1e-9})
    assert fit_inverse_temperature(logits, label) == pytest.approx(optimum.x, abs=1e-5)


def test_log_likelihood_and_brier_are_those_of_the_softmax() -> None:
    selection, test = draw_part(200), draw_part(80, seed=1)
    result = likelihood(label_likelihood(selection, test))
    assert result.brier is not None and result.temperature is not None
    probabilities = special.softmax(np.array(test.scores) / result.temperature, axis=1)
    assert -result.log_likelihood.mean() == pytest.approx(log_loss(test.label, probabilities))
    right = np.eye(3)[np.array(test.label, dtype=int)]
    assert result.brier == pytest.approx(((probabilities - right) ** 2).sum(axis=1))


def test_a_selection_part_without_an_error_leaves_probabilities_under_one() -> None:
    sure = Part([0, 1] * 9, [0, 1] * 9, [[5.0, 0.0], [0.0, 5.0]] * 9)
    wrong = Part([0, 1], [1, 1], [[0.0, 5.0], [0.0, 5.0]])
    result = likelihood(label_likelihood(sure, wrong))
    # 18 right of 18 count as 19 of 20.
    assert np.exp(result.log_likelihood) == pytest.approx([0.05, 0.95])


def test_a_label_that_train_did_not_have_leaves_a_finite_number() -> None:
    part = Part([0, 1, 2], [0, 1, 1], [[-0.1, -2.3, -1e3], [-2.3, -0.1, -1e3], [-2, -0.2, -1e3]])
    result = likelihood(label_likelihood(part, part))
    assert np.isfinite(result.log_likelihood).all()


def test_numbers_have_the_density_of_their_errors_on_the_selection_part() -> None:
    rng = np.random.default_rng(3)
    label = rng.normal(20, 4, 300)
    answer = label + rng.normal(0, 2, 300)
    selection, test = (
        Part(label[half].tolist(), answer[half].tolist()) for half in (slice(150), slice(150, 300))
    )
    result = likelihood(number_likelihood(selection, test))
    assert result.deviation == pytest.approx(2, rel=0.15) and result.brier is None
    expected = stats.norm.logpdf(test.label, test.prediction, result.deviation)
    assert result.log_likelihood == pytest.approx(expected)


def test_where_there_is_none_the_reason_is_said() -> None:
    part = draw_part(5)
    exact = Part([1.0, 2.0], [1.0, 2.0])
    for result in (
        label_likelihood(None, part),
        number_likelihood(None, exact),
        number_likelihood(exact, exact),
        text_likelihood(None, Part([], [], [[], []])),
    ):
        assert isinstance(result, NoLikelihood) and result.reason


def test_of_texts_it_is_that_of_the_stored_tokens() -> None:
    result = likelihood(text_likelihood(None, Part([], [], [[-1.0, -0.5], [-2.0]])))
    assert result.log_likelihood.tolist() == [-1.5, -2.0]
    assert result.weight.tolist() == [2.0, 1.0]


def test_every_built_in_objective_has_one() -> None:
    assert all(objectives.get(name).likelihood for name in objectives.names())
