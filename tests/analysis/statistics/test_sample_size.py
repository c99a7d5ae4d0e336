from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support import fake_records as fake

from paretune.analysis.statistics.bootstrap_score import bootstrap_score
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.analysis.statistics.score_difference import difference_terms
from paretune.reporting.text.sample_sizes import describe_sample_size


def made(mean: float, spread: float, seeds: int = 5, n: int = 400, noise: int = 0):
    """A cell of which mean and spread of the seeds are set; its examples' part is as drawn."""
    found = bootstrap_score(
        [fake.answers(mean, n=n, seed=s + noise) for s in range(seeds)], "accuracy"
    )
    steps = np.linspace(-1, 1, seeds)
    deviation = steps.std(ddof=1) if seeds > 1 else 1.0
    return replace(found, seeds=mean + spread * steps / deviation, residual_variance=0.0)


def test_the_number_is_the_smallest_that_the_formula_takes() -> None:
    a, b = made(0.80, 0.05), made(0.76, 0.03, noise=50)
    v = difference_terms(a, b).examples[0]

    def least(seeds: int, examples: float) -> float:
        of_seeds = (0.05**2 + 0.03**2) / seeds
        parts = [(0.05**2 / seeds, seeds - 1), (0.03**2 / seeds, seeds - 1)]
        welch = of_seeds**2 / sum(p**2 / df for p, df in parts)
        parts.append((v * 400 / examples, examples - 1))
        total = sum(p for p, _ in parts)
        freedom = total**2 / sum(p**2 / df for p, df in parts)
        clear = stats.t.ppf(0.975, welch) ** 2 * of_seeds
        clear += stats.t.ppf(0.975, examples - 1) ** 2 * parts[-1][0]
        return clear**0.5 + stats.t.ppf(0.8, freedom) * total**0.5

    found = estimate_sample_size(a, b)
    assert found.seeds is not None and found.seeds > 20 and found.examples is None
    assert least(found.seeds, 400) <= 0.04 < least(found.seeds - 1, 400)
    assert (found.seeds_now, found.examples_now, found.varies, found.blind) == (5, 400, True, False)
    both = estimate_sample_size(a, made(0.797, 0.03, noise=50)).both
    assert both is not None and least(*both) <= 0.04  # enough for less is enough for more


def test_examples_alone_decide_where_seeds_hardly_differ_and_the_reverse() -> None:
    a, b = made(0.80, 0.001), made(0.78, 0.001, noise=50)
    found = estimate_sample_size(a, b)
    assert found.seeds is None and found.examples is not None and found.examples > 400
    assert "seeds alone would not" in describe_sample_size(found)
    wild = estimate_sample_size(made(0.80, 0.08, n=1500), made(0.74, 0.08, n=1500, noise=50))
    assert wild.examples is None and wild.seeds is not None and wild.seeds > 5
    assert "test examples alone would not" in describe_sample_size(wild)


def test_what_cannot_be_known_is_said() -> None:
    one, other = made(0.8, 0.0, seeds=1), made(0.75, 0.02)
    found = estimate_sample_size(one, other)
    assert found.blind and found.seeds is None
    assert "one seed does not show how much seeds differ" in describe_sample_size(found)
    fixed = estimate_sample_size(one, other, deterministic=(True, False))
    assert not fixed.blind and fixed.seeds_now == 5
    same = estimate_sample_size(other, other)
    assert (same.seeds, same.examples, same.both) == (None, None, None)
    assert "they score the same" in describe_sample_size(same)


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_a_stricter_level_needs_more(level: float) -> None:
    a, b = made(0.80, 0.004), made(0.77, 0.004, noise=50)
    usual, strict = estimate_sample_size(a, b), estimate_sample_size(a, b, level=level / 5)
    assert usual.examples and (strict.examples is None or strict.examples > usual.examples)
