from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support import fake_records as fake

from paretune.analysis.statistics.bootstrap_score import BootstrapScore, bootstrap_score
from paretune.analysis.statistics.conservative_difference import (
    conservative_difference,
    smallest_clear_difference,
)
from paretune.analysis.statistics.paired_difference import (
    shared_example_variance,
    student_difference,
)


def cell(quality: float, seeds: int = 3, n: int = 200, noise: int = 0) -> BootstrapScore:
    parts = [fake.answers(quality, n=n, seed=s + noise) for s in range(seeds)]
    return bootstrap_score(parts, "accuracy")


def test_without_seeds_it_is_the_usual_interval() -> None:
    a, b = cell(0.8, seeds=1), cell(0.7, seeds=1, noise=9)
    usual, found = student_difference(a, b), conservative_difference(a, b)
    assert found.low == pytest.approx(usual.low) and found.high == pytest.approx(usual.high)
    assert found.p == pytest.approx(usual.p, rel=1e-6)


def test_without_examples_part_it_is_welch() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        one, other = rng.normal(0.7, 0.05, 4), rng.normal(0.65, 0.02, 3)
        seeds = [(one.var(ddof=1) / 4, 3.0), (other.var(ddof=1) / 3, 2.0)]
        wanted = stats.ttest_ind(one, other, equal_var=False)
        p = wanted.pvalue
        assert smallest_clear_difference(seeds, (0.0, 99.0), p) == pytest.approx(
            abs(one.mean() - other.mean())
        )


def test_seeds_that_are_alike_by_chance_prove_little() -> None:
    a, b = cell(0.8), cell(0.8, noise=20)
    a = replace(a, seeds=np.array([0.80, 0.82]))
    b = replace(b, seeds=np.array([0.62, 0.66]))
    usual, found = student_difference(a, b), conservative_difference(a, b)
    assert found.p > 3 * usual.p
    assert found.high - found.low > usual.high - usual.low
    # p and interval say the same.
    half = (found.high - found.low) / 2
    v, s = shared_example_variance(a, b), a.seed_variance + b.seed_variance
    assert half > (stats.t.ppf(0.975, 2) ** 2 * s + 1.96**2 * v) ** 0.5
    for other in (cell(0.7), cell(0.75, noise=30), cell(0.79, noise=60)):
        found = conservative_difference(a, other)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_what_says_nothing_proves_nothing() -> None:
    same = cell(0.8)
    found = conservative_difference(same, same)
    assert (found.estimate, found.p) == (0, 1)
    label = [0]
    one = bootstrap_score([fake.predictions(label, [0])], "accuracy")
    other = bootstrap_score([fake.predictions(label, [1])], "accuracy")
    found = conservative_difference(one, other)
    assert (found.low, found.high) == (-1, 1) and found.p > 0.05
