"""Do the verdicts err as rarely as they say, and find as often as they should? Simulated studies.

An example has an ease, shared by all methods; a seed of a method has a skill around the method's.
Answers are right with the logistic probability of their sum. So methods of equal skill have equal
expected scores, examples are paired, and seeds differ.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from paretune.analysis.pairs import compare_all_pairs, rank_ranges
from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.pareto.front import pareto_front
from paretune.analysis.statistics.differences import difference_terms, score_difference
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.analysis.statistics.scores import BootstrapScore, bootstrap_score
from paretune.store.record import Predictions

LEVEL, SLACK = 0.05, 0.007


def simulated(
    rng: np.random.Generator, skills: list[float], seeds: int, n: int, spread: float
) -> dict[str, BootstrapScore]:
    """One study of a method for each skill, by its place."""
    ease = rng.normal(0, 1.2, n)
    label = rng.integers(0, 2, n)
    uid, labels = tuple(map(str, range(n))), tuple(label.tolist())
    cells = {}
    for place, skill in enumerate(skills):
        parts = []
        for _ in range(seeds):
            chance = 1 / (1 + np.exp(-(1 + skill + spread * rng.normal() + ease)))
            right = rng.random(n) < chance
            parts.append(Predictions(uid, labels, tuple(np.where(right, label, 1 - label)), ()))
        cells[str(place)] = bootstrap_score(parts, "accuracy")
    return cells


def truth(skill: float, spread: float) -> float:
    """The expected accuracy of a method."""
    points = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    wide = (1.2**2 + spread**2) ** 0.5
    return float((1 / (1 + np.exp(-(1 + skill + wide * points)))).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("methods", "seeds", "n", "spread"),
    [
        (4, 1, 60, 0.0),
        (4, 2, 50, 0.3),
        (4, 2, 200, 0.3),
        (4, 3, 60, 0.5),
        (4, 5, 100, 0.3),
        (8, 2, 200, 0.5),
        (8, 3, 200, 0.3),
    ],
)
def test_without_a_difference_hardly_ever_is_one_called_clear(
    methods: int, seeds: int, n: int, spread: float
) -> None:
    rng = np.random.default_rng([methods, seeds, n])
    studies = 4000 if methods < 8 else 1500
    wrong = sum(
        any(
            pair.standing != "unclear"
            for pair in compare_all_pairs(simulated(rng, [0.0] * methods, seeds, n, spread))
        )
        for _ in range(studies)
    )
    print(
        f"{methods} methods, {seeds} seeds, {n} examples, {spread}: {100 * wrong / studies:.2f} %"
    )
    assert wrong / studies <= LEVEL + SLACK


@pytest.mark.slow
@pytest.mark.parametrize(("methods", "seeds"), [(4, 2), (8, 2), (8, 3), (4, 5)])
@pytest.mark.parametrize("unstable", ["all", "half"])
def test_seeds_that_decide_alone_do_not_deceive(methods: int, seeds: int, unstable: str) -> None:
    """Seeds' variance ten times that of the examples: what deceives Welch and Satterthwaite's."""
    rng, studies = np.random.default_rng([methods, seeds, len(unstable)]), 1500
    uid, n = tuple(map(str, range(200))), 200
    spread = np.full(methods, (10 * seeds / 2) ** 0.5)
    if unstable == "half":
        spread[methods // 2 :] = 0
    wrong = 0
    for _ in range(studies):
        cells = {}
        for i in range(methods):
            ours = rng.normal(0, 0.5**0.5) + spread[i] * rng.normal(size=seeds)
            draws = ours.mean() + rng.normal(0, 0.5**0.5, 2000)
            cells[str(i)] = BootstrapScore(uid, (0,) * n, ours, draws, None, -1e9, 1e9)
        pairs = compare_all_pairs(cells)
        wrong += any(pair.standing != "unclear" for pair in pairs)
    print(f"{methods} methods x {seeds} seeds, {unstable}: {100 * wrong / studies:.2f} %")
    assert wrong / studies <= LEVEL + SLACK


def power(gap: float, error: float, seeds: float, between: float, v: float, n: int) -> float:
    """How often a difference ``gap`` is found by Banerjee's rule, were all of it normal.

    What is seen is normal around ``gap`` with standard deviation ``error``. The variance that comes
    from ``seeds`` of each method, ``between``, is seen with the scatter of two chi-squares, that of
    the examples ``v`` as it is. One seed: the noncentral t of a paired test.
    """
    if seeds == 1:
        clear = stats.t.ppf(0.975, n - 1)
        distribution = stats.nct(n - 1, gap / error)
        return float(distribution.sf(clear) + distribution.cdf(-clear))
    steps = stats.chi2.ppf((np.arange(400) + 0.5) / 400, seeds - 1) / (seeds - 1)
    one, other = (between / 2 * part for part in np.meshgrid(steps, steps))
    freedom = (one + other) ** 2 / ((one**2 + other**2) / (seeds - 1))
    clear = np.sqrt(
        stats.t.ppf(0.975, freedom) ** 2 * (one + other) + stats.t.ppf(0.975, n - 1) ** 2 * v
    )
    return float(
        (stats.norm.sf((clear - gap) / error) + stats.norm.cdf(-(clear + gap) / error)).mean()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("skill", "seeds", "n", "spread"),
    [
        (0.4, 1, 200, 0.0),
        (0.7, 1, 200, 0.0),
        (1.0, 1, 200, 0.0),
        (0.7, 2, 200, 0.15),
        (1.0, 2, 1000, 0.15),
        (0.7, 3, 200, 0.15),
        (0.4, 3, 1000, 0.15),
        (0.4, 5, 200, 0.15),
        (0.7, 5, 200, 0.15),
    ],
)
def test_a_planted_difference_is_found_as_often_as_theory_says(
    skill: float, seeds: int, n: int, spread: float
) -> None:
    """Beside it what could be found if the variances were known: theory's bound for any rule."""
    rng, studies = np.random.default_rng([7, round(10 * skill), seeds, n]), 1200
    gaps, between, examples, n_significant = [], [], [], 0
    for _ in range(studies):
        cells = simulated(rng, [skill, 0.0], seeds, n, spread)
        a, b = cells["0"], cells["1"]
        gaps.append(a.estimate - b.estimate)
        between.append(a.seed_variance + b.seed_variance)
        examples.append(difference_terms(a, b).examples[0])
        n_significant += score_difference(a, b).p < LEVEL
    gap, error = truth(skill, spread) - truth(0.0, spread), float(np.std(gaps))
    theory = power(gap, error, seeds, float(np.mean(between)), float(np.mean(examples)), n)
    known = float(stats.norm.sf(1.96 - gap / error) + stats.norm.cdf(-1.96 - gap / error))
    print(
        f"| {100 * gap:.1f} | {seeds} x {n} | {100 * n_significant / studies:.1f} % "
        f"| {100 * theory:.1f} % | {100 * known:.1f} % |"
    )
    # Three standard errors of the simulation, and two points for answers that are not normal.
    noise = 3 * (theory * (1 - theory) / studies) ** 0.5
    assert n_significant / studies == pytest.approx(theory, abs=noise + 0.02)


@pytest.mark.slow
def test_all_true_ranks_lie_in_the_ranges_at_once() -> None:
    rng, studies, n_covered = np.random.default_rng(9), 1000, 0
    skills = [1.5, 0.8, 0.75, 0.0]
    for _ in range(studies):
        cells = simulated(rng, skills, 3, 200, 0.2)
        ranges = rank_ranges(list(cells), compare_all_pairs(cells))
        n_covered += all(ranges[str(i)].best <= i + 1 <= ranges[str(i)].worst for i in range(4))
    print(f"all true ranks in {100 * n_covered / studies:.1f} % of studies")
    assert n_covered / studies >= 1 - LEVEL - SLACK


@pytest.mark.slow
def test_the_examples_that_are_asked_for_find_5_points_in_eight_of_ten() -> None:
    """Whatever the pilot saw: a study that looks small or large asks for nearly the same."""
    rng, studies = np.random.default_rng(10), 800
    skill = optimize.brentq(lambda s: truth(s, 0.0) - truth(0.0, 0.0) - 0.05, 0.1, 1.0)
    numbers = []
    for _ in range(40):
        cells = simulated(rng, [skill, 0.0], 1, 200, 0.0)
        size = estimate_sample_size(cells["0"], cells["1"], deterministic=(True, True))
        numbers.append(size.examples or 0)
    n = round(float(np.mean(numbers)))
    n_significant = 0
    for _ in range(studies):
        cells = simulated(rng, [skill, 0.0], 1, n, 0.0)
        n_significant += score_difference(cells["0"], cells["1"]).p < LEVEL
    print(f"{n} examples decide in {100 * n_significant / studies:.1f} % of studies")
    assert n_significant / studies == pytest.approx(0.8, abs=0.05)


@pytest.mark.slow
def test_the_seeds_that_are_asked_for_find_5_points_in_eight_of_ten() -> None:
    """Pilots of five seeds know the variance between seeds roughly; asked is for the average."""
    rng, n_significant, studies, spread, n = np.random.default_rng(12), 0, 0, 0.3, 400
    skill = optimize.brentq(lambda s: truth(s, spread) - truth(0.0, spread) - 0.05, 0.1, 1.0)
    for _ in range(40):
        pilot = simulated(rng, [skill, 0.0], 5, n, spread)
        size = estimate_sample_size(pilot["0"], pilot["1"])
        for _ in range(5 if size.seeds and size.seeds <= 60 else 0):
            cells = simulated(rng, [skill, 0.0], size.seeds or 0, n, spread)
            n_significant += score_difference(cells["0"], cells["1"]).p < LEVEL
            studies += 1
    print(f"seeds decide in {100 * n_significant / studies:.1f} % of {studies} studies")
    assert studies >= 50 and 0.75 <= n_significant / studies <= 0.95


@pytest.mark.slow
def test_a_dearer_method_that_is_no_better_is_on_the_front_half_of_the_time() -> None:
    """And the probability is even: as often under 0.1 as over 0.9."""
    rng, costs = np.random.default_rng(11), {"0": CostEstimate(1.0), "1": CostEstimate(2.0)}
    chances = np.array(
        [
            {
                p.name: p.probability
                for p in pareto_front(simulated(rng, [0.0, 0.0], 3, 100, 0.2), costs)
            }["1"]
            for _ in range(1000)
        ]
    )
    low, high = float((chances < 0.1).mean()), float((chances > 0.9).mean())
    print(f"mean {chances.mean():.3f}; under 0.1: {low:.3f}, over 0.9: {high:.3f}")
    assert chances.mean() == pytest.approx(0.5, abs=0.03)
    assert low <= 0.1 + 0.02 and high <= 0.1 + 0.02
