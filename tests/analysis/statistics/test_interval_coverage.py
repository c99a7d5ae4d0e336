"""How often does the interval of a score hold the true score? Simulated studies at hard points.

A seed's true score p is drawn from a beta distribution around the method's: bounded, and skewed
where the method is good, as real ones are. Its answer to an example is right with chance p; what
is hard for one seed is hard for others (two thirds to three quarters of an answer's luck belong to
the example). The *share* is how much of the variance of one seed's score comes from the seed; the
rest is the test examples'. ``bench/verdicts`` has more worlds, and claims and ranks in them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special
from support.fake_records import predictions

from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import score_runs
from paretune.store.record import Predictions

Array = NDArray[np.float64]

PROMISED = 0.92
COMMON = 0.7


def seed_scores(
    rng: np.random.Generator, level: float, n: int, share: float, shape: tuple[int, ...]
) -> Array:
    """True scores of seeds: V / (V + E[p (1 - p)] / n) is ``share``, V their variance."""
    if not share:
        return np.full(shape, level)
    size = n * (1 - share) / share
    return rng.beta(level * size, (1 - level) * size, shape)


def right_answers(rng: np.random.Generator, p: Array, n: int) -> NDArray[np.bool_]:
    """Which answers are right: (..., seeds, n) for true scores (..., seeds)."""
    *studies, seeds = p.shape
    example = rng.standard_normal((*studies, 1, n), dtype=np.float32) * np.float32(COMMON**0.5)
    own = rng.standard_normal((*studies, seeds, n), dtype=np.float32)
    luck = example + own * np.float32((1 - COMMON) ** 0.5)
    return np.asarray(luck < special.ndtri(p)[..., None])


def answered(right: NDArray[np.bool_], label: NDArray[np.int64]) -> list[Predictions]:
    """The same as answers, of one study: (seeds, n)."""
    return [predictions(label, np.where(one, label, 1 - label)) for one in right]


def covered(
    simulate_interval: Callable[[np.random.Generator], Interval],
    truth: float,
    studies: int,
    key: list[int],
) -> float:
    """The share of studies whose interval holds the truth, by the product's own way."""
    rng = np.random.default_rng(key)
    intervals = [simulate_interval(rng) for _ in range(studies)]
    return sum(one.low <= truth <= one.high for one in intervals) / studies


def macro_f1(p: Array) -> Array:
    """Of unlimited examples, three in ten with the rarer label."""
    rare, often = 0.3, 0.7
    one = 2 * rare * p / (rare + rare * p + often * (1 - p))
    other = 2 * often * p / (often + often * p + rare * (1 - p))
    return np.asarray((one + other) / 2)


@pytest.mark.parametrize("studies", [250, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("metric", "level", "seeds", "n", "share"),
    [
        ("accuracy", 0.6, 2, 56, 0.8),
        ("accuracy", 0.9, 2, 100, 0.8),
        ("accuracy", 0.6, 3, 20, 0.8),
        ("accuracy", 0.9, 5, 56, 0.5),
        ("accuracy", 0.6, 1, 100, 0.0),
        ("macro_f1", 0.6, 3, 56, 0.8),
        ("macro_f1", 0.9, 2, 250, 0.8),
    ],
)
def test_the_points_that_are_hardest(
    metric: str, level: float, seeds: int, n: int, share: float, studies: int
) -> None:
    def study(rng: np.random.Generator) -> Interval:
        p = seed_scores(rng, level, n, share, (seeds,))
        label = (rng.random(n) < 0.3).astype(np.int64)
        return confidence_interval(score_runs(answered(right_answers(rng, p, n), label), metric))

    drawn = seed_scores(np.random.default_rng(4), level, n, share, (200_000,))
    truth = level if metric == "accuracy" else float(macro_f1(drawn).mean())
    slack = 2 * (PROMISED * (1 - PROMISED) / studies) ** 0.5
    key = [seeds, n, round(100 * share), round(10 * level)]
    assert covered(study, truth, studies, key) >= PROMISED - slack
