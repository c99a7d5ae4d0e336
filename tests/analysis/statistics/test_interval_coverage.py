"""How often does the interval of a score hold the true score? Simulated studies on a grid.

A seed's true score p is drawn from a beta distribution around the method's: bounded, and skewed
where the method is good, as real ones are. Its answer to an example is right with chance p; what
is hard for one seed is hard for others (two thirds to three quarters of an answer's luck belong to
the example). The grid's *share* is how much of the variance of one seed's score comes from the
seed; the rest is the test examples'.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from paretune.analysis.statistics.intervals import Interval, confidence_interval
from paretune.analysis.statistics.scores import score_runs, score_sums
from paretune.metrics.translation import BLEU
from paretune.store.record import Predictions

Array = NDArray[np.float64]

PROMISED = 0.92
COMMON = 0.7
SHARES = (0.0, 0.2, 0.5, 0.8)
SIZES = (20, 56, 100, 250, 1000)


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


def accuracy(
    level: float, seeds: int, n: int, share: float, studies: int
) -> tuple[float, float, float]:
    """Share of studies whose interval holds the truth; its half width, and by known variances.

    The rule is the product's own, on arrays (:func:`test_arrays_are_what_the_product_does`).
    """
    rng = np.random.default_rng([seeds, n, round(100 * share), round(10 * level)])
    n_covered, halves, estimates = 0, [], []
    for left in range(0, studies, 250):
        p = seed_scores(rng, level, n, share, (min(250, studies - left), seeds))
        low, high, estimate = ends(right_answers(rng, p, n))
        n_covered += int(((low <= level) & (level <= high)).sum())
        halves.append((high - low) / 2)
        estimates.append(estimate)
    known = special.ndtri(0.975) * np.concatenate(estimates).std()
    return n_covered / studies, float(np.median(np.concatenate(halves))), float(known)


def ends(right: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Lower and upper ends and the estimate of the accuracy of (studies, seeds, n) answers."""
    _, seeds, n = right.shape
    scores, mean = right.mean(axis=2), right.mean(axis=1)
    estimate = scores.mean(axis=1)
    between = scores.var(axis=1, ddof=1) / seeds if seeds > 1 else np.zeros(len(right))
    imaginary = np.array([0.5 + 0.5 / seeds**0.5, 0.5 - 0.5 / seeds**0.5] * 2)
    extended = np.concatenate([mean, np.broadcast_to(imaginary, (len(mean), 4))], axis=1)
    examples = np.maximum(mean.var(axis=1, ddof=1) / n, extended.var(axis=1) / (n + 4))
    if seeds > 1:
        rest = right - mean[:, None, :] - scores[..., None] + estimate[:, None, None]
        noise = (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * (n - 1) * seeds * n)
        examples = np.maximum(examples - noise, examples / 4)
    t_examples = special.stdtrit(n - 1, 0.975)
    t_seeds = special.stdtrit(seeds - 1, 0.975) if seeds > 1 else 0.0
    half = (t_seeds * between + t_examples * examples) / np.sqrt(between + examples)
    return np.maximum(0, estimate - half), np.minimum(1, estimate + half), estimate


def answered(right: NDArray[np.bool_], label: NDArray[np.int64]) -> list[Predictions]:
    """The same as answers, of one study: (seeds, n)."""
    uid, labels = tuple(map(str, range(len(label)))), tuple(label.tolist())
    return [
        Predictions(uid, labels, tuple(np.where(one, label, 1 - label).tolist()), ())
        for one in right
    ]


def test_arrays_are_what_the_product_does() -> None:
    rng = np.random.default_rng(3)
    for seeds, n in ((1, 56), (2, 100), (5, 250)):
        right = right_answers(rng, seed_scores(rng, 0.8, n, 0.5, (20, seeds)), n)
        low, high, _ = ends(right)
        for study in range(20):
            label = rng.integers(0, 2, n)
            interval = confidence_interval(score_runs(answered(right[study], label), "accuracy"))
            assert interval.low == pytest.approx(low[study], abs=1e-9)
            assert interval.high == pytest.approx(high[study], abs=1e-9)


@pytest.mark.parametrize(
    ("level", "seeds", "n", "share"),
    [(0.6, 2, 56, 0.8), (0.9, 2, 100, 0.8), (0.6, 3, 20, 0.8), (0.9, 5, 56, 0.5), (0.6, 1, 100, 0)],
)
def test_the_points_that_are_hardest(level: float, seeds: int, n: int, share: float) -> None:
    assert accuracy(level, seeds, n, share, 3000)[0] >= PROMISED


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("level", [0.6, 0.9])
def test_accuracy(level: float, seeds: int) -> None:
    """One seed knows of examples only, so only where seeds do not differ is anything promised."""
    below = []
    for n in SIZES:
        line = []
        for share in SHARES if seeds > 1 else (0.0,):
            studies = 8000 if seeds < 5 and n < 1000 else 4000
            coverage, half, known = accuracy(level, seeds, n, share, studies)
            line.append(f"{100 * coverage:.1f} ({half / known:.1f})")
            if coverage < PROMISED:
                below.append((n, share, coverage))
        print(f"| {level} | {seeds} | {n} | {' | '.join(line)} |")
    # There the beta law draws most seeds near 1 and some far below.
    skewed = (level, seeds) == (0.9, 3)
    assert [point[:2] for point in below] == ([(20, 0.8), (56, 0.8)] if skewed else [])
    assert all(coverage > 0.92 for *_, coverage in below)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_that_either_succeed_or_fail(seeds: int) -> None:
    """Nine of ten seeds near 1, the others near 0: few seeds may show one kind only."""
    coverages = [accuracy(0.9, seeds, n, 0.95, 4000)[0] for n in SIZES[1:]]
    print(f"| {seeds} | {' | '.join(f'{100 * coverage:.1f}' for coverage in coverages)} |")
    assert coverages[0] < PROMISED  # what the report warns of is so
    assert coverages[-1] > coverages[0]


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


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("level", [0.6, 0.9])
def test_macro_f1(level: float, seeds: int) -> None:
    for n in (56, 250):
        line = []
        for share in (0.0, 0.8) if seeds > 1 else (0.0,):
            drawn = seed_scores(np.random.default_rng(4), level, n, share, (200_000,))

            def study(rng: np.random.Generator, n: int = n, share: float = share) -> Interval:
                p = seed_scores(rng, level, n, share, (seeds,))
                label = (rng.random(n) < 0.3).astype(np.int64)
                return confidence_interval(
                    score_runs(answered(right_answers(rng, p, n), label), "macro_f1")
                )

            key = [seeds, n, round(100 * share), round(10 * level), 2]
            coverage = covered(study, float(macro_f1(drawn).mean()), 1000, key)
            line.append(f"{100 * coverage:.1f}")
            assert coverage >= PROMISED - 0.01
        print(f"| {level} | {seeds} | {n} | {' | '.join(line)} |")


def bleu_sums(rng: np.random.Generator, p: Array, n: int) -> Array:
    """What BLEU sums, made up: (seeds, n, 10). Segments of 8 to 30 words, some harder for all."""
    words = rng.integers(8, 31, n)
    length = np.maximum(words + rng.integers(-2, 3, n), 5)
    ease = rng.normal(0, 0.4, n)
    hit = special.expit(special.logit(p)[:, None] + ease)
    all_ = np.stack([length - k for k in range(4)], axis=-1)
    right = rng.binomial(all_, hit[..., None] ** np.array([1, 1.6, 2.2, 2.8]))
    shape = (len(p), n, 1)
    return np.concatenate(
        [
            np.broadcast_to(length[:, None], shape),
            np.broadcast_to(words[:, None], shape),
            right,
            np.broadcast_to(all_, (len(p), n, 4)),
        ],
        axis=-1,
    ).astype(np.float32)


def bleu(sums: Array) -> Array:
    """From 0 to 1."""
    return BLEU.from_sums(sums) / 100


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_bleu(seeds: int) -> None:
    """Seeds spread on the scale of p so that their share of a score's variance is as stated."""
    rng, level = np.random.default_rng(6), 0.6
    at = np.linspace(0.3, 0.9, 61)
    curve = bleu(bleu_sums(rng, at, 20_000).sum(axis=1))
    slope = float(np.gradient(curve, at)[30])
    for n in (56, 250):
        once = bleu(
            np.stack([bleu_sums(rng, np.array([level]), n).sum(axis=1) for _ in range(600)])
        )
        line = []
        for share in (0.0, 0.8) if seeds > 1 else (0.0,):
            spread = float(once.std()) / slope * (share / (1 - share)) ** 0.5
            drawn = np.clip(level + spread * rng.normal(size=50_000), 0.3, 0.9)

            def study(rng: np.random.Generator, n: int = n, spread: float = spread) -> Interval:
                p = np.clip(level + spread * rng.normal(size=seeds), 0.3, 0.9)
                uid = tuple(map(str, range(n)))
                empty = [Predictions(uid, uid, uid, ())] * seeds
                return confidence_interval(score_sums(empty, list(bleu_sums(rng, p, n)), bleu))

            key = [seeds, n, round(100 * share), 3]
            coverage = covered(study, float(np.interp(drawn, at, curve).mean()), 1000, key)
            line.append(f"{100 * coverage:.1f}")
            assert coverage >= PROMISED - 0.01
        print(f"| {seeds} | {n} | {' | '.join(line)} |")
