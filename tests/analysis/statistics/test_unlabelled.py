"""Differences that unlabelled rows correct, in worlds whose truth is given."""

from __future__ import annotations

import numpy as np
import pytest
from support import fake_records as fake

from paretune.analysis.statistics.differences import Estimate, estimate_variances
from paretune.analysis.statistics.scores import score_runs
from paretune.analysis.statistics.unlabelled import (
    MAX_WEIGHT,
    Covariate,
    correct_estimate,
    fit_weights,
)

ROWS, UNLABELLED, LABELS, STUDIES = 200, 1000, 4, 600


def draw_study(rng: np.random.Generator, trust: float) -> tuple[Estimate, Estimate, float]:
    """One study: the difference of two methods without and with a correction, and the true one.

    Args:
        trust: how right further methods are about the labels: 1 in all they say, 0 in nothing, -1
            where they exclude what is right.
    """
    stated = rng.dirichlet([0.4] * LABELS, ROWS + UNLABELLED)
    actual = {1.0: stated, 0.0: np.full_like(stated, 1 / LABELS), -1.0: (1 - stated) / (LABELS - 1)}
    label = (actual[trust].cumsum(axis=1) < rng.random((len(stated), 1))).sum(axis=1)
    label = label.clip(max=LABELS - 1)
    best, chance = stated.argmax(axis=1), rng.integers(LABELS, size=(2, len(stated)))
    # Each follows what is stated on its own share of the rows.
    answers = [
        np.where(rng.random(len(best)) < p, best, c)
        for p, c in zip((0.7, 0.4), chance, strict=True)
    ]
    every = np.arange(len(stated))
    g = stated[every, answers[0]] - stated[every, answers[1]]
    a, b = (
        score_runs([fake.predictions(label[:ROWS], answer[:ROWS])], "accuracy")
        for answer in answers
    )
    covariate = Covariate(g[:ROWS] - g[ROWS:].mean(), g[ROWS:] - g[ROWS:].mean(), UNLABELLED)
    followed = actual[trust][every, best].mean()  # of which a has 0.3 more
    plain = estimate_variances(a, b)
    return plain, correct_estimate(plain, a, b, covariate), 0.3 * (followed - 1 / LABELS)


@pytest.mark.parametrize("trust", [1.0, 0.0, -1.0])
def test_a_corrected_difference_is_unbiased_and_covered_whatever_corrects_it(trust: float) -> None:
    rng = np.random.default_rng(3)
    studies = [draw_study(rng, trust) for _ in range(STUDIES)]
    truth = float(np.mean([true for *_, true in studies]))
    plain, corrected = (np.array([s[i].value for s in studies]) - truth for i in (0, 1))
    assert abs(corrected.mean()) < 4 * corrected.std() / STUDIES**0.5
    hits = [abs(s[1].value - truth) <= s[1].half_width(0.05) for s in studies]
    assert abs(np.mean(hits) - 0.95) < 4 * (0.95 * 0.05 / STUDIES) ** 0.5
    ratio = float(np.mean([s[1].row_ratio for s in studies]))
    # Variances of 600 draws are known to 6 %.
    assert corrected.var() / plain.var() == pytest.approx(ratio, abs=0.1)
    assert ratio < 0.75 if trust == 1 else abs(ratio - 1) < 0.02


def test_weights_are_of_other_rows_and_bounded() -> None:
    rng = np.random.default_rng(1)
    g, rest = rng.normal(size=(2, 100))
    values = 0.5 * g + rest
    weights = fit_weights(values, Covariate(g, rest, 100))
    mine = np.arange(100) % 10 == 3
    changed = np.where(mine, 9.0, values)
    assert fit_weights(changed, Covariate(g, rest, 100))[mine] == pytest.approx(weights[mine])
    slope = np.polyfit(g[~mine], values[~mine], 1)[0]
    assert weights[3] == pytest.approx(slope / 2)  # as many rows on both sides
    for sign, bound in ((-1, 0.0), (1, MAX_WEIGHT)):
        assert set(fit_weights(sign * 100 * g, Covariate(g, rest, 100))) == {bound}
    few = Covariate(g[:10], rest, 100)
    assert not fit_weights(values[:10], few).any()
