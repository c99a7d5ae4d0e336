from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support import fake_records as fake

from paretune.analysis.statistics.differences import difference_terms
from paretune.analysis.statistics.sample_size import ONE_PASS, estimate_sample_size
from paretune.analysis.statistics.scores import bootstrap_score
from paretune.reporting.text.comparison import describe_sample_size


def make_score(mean: float, spread: float, seeds: int = 5, n: int = 400, noise: int = 0):
    """A cell of which mean and spread of the seeds are set; its examples' part is as drawn."""
    score = bootstrap_score(
        [fake.answers(mean, n=n, seed=s + noise) for s in range(seeds)], "accuracy"
    )
    steps = np.linspace(-1, 1, seeds)
    deviation = steps.std(ddof=1) if seeds > 1 else 1.0
    return replace(score, seeds=mean + spread * steps / deviation, residual_variance=0.0)


def test_with_known_variances_it_is_the_textbook() -> None:
    """One run each that draws nothing: a paired test of 5 points with 80 % power (Cohen 1988)."""
    a, b = make_score(0.80, 0.0, seeds=1), make_score(0.76, 0.0, seeds=1, noise=50)
    size = estimate_sample_size(a, b, deterministic=(True, True))
    variance = 400 * difference_terms(a, b).examples[0]
    expected = variance * ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / 0.05) ** 2
    assert size.examples == pytest.approx(expected, rel=0.02)
    assert (size.seeds, size.blind, size.varies) == (None, False, False)
    # A row of one pass is a test row whose variance counts phi times in the interval.
    ratio = (ONE_PASS.phi(500) ** 0.5 * stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / (
        stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    )
    assert size.cross_validated_rows == pytest.approx(expected * ratio**2, rel=0.02)


def test_what_decides_is_enough_and_less_is_not() -> None:
    a, b = make_score(0.80, 0.05), make_score(0.76, 0.03, noise=50)
    size = estimate_sample_size(a, b)
    assert size.seeds is not None and size.seeds > 5 and size.examples is None
    assert (size.seeds_now, size.examples_now, size.varies, size.blind) == (5, 400, True, False)
    # Known variances need fewer: 5 points of (0.05^2 + 0.03^2) / S and the examples' part.
    v = difference_terms(a, b).examples[0]
    known = next(
        s for s in range(2, 99) if (1.96 + 0.8416) * ((0.05**2 + 0.03**2) / s + v) ** 0.5 <= 0.05
    )
    assert size.seeds >= known
    assert "examples alone are not enough" in "".join(describe_sample_size(size, "a", "b"))
    timed = estimate_sample_size(a, b, run_seconds=(60.0, 30.0))
    assert timed.seconds == 90 * (size.seeds - 5)
    assert estimate_sample_size(a, b, run_seconds=(60.0, None)).seconds is None


def test_examples_alone_decide_where_seeds_hardly_differ() -> None:
    size = estimate_sample_size(
        make_score(0.80, 0.001, n=60), make_score(0.78, 0.001, n=60, noise=50)
    )
    assert size.seeds is None and size.examples is not None and size.examples > 60
    text = "".join(describe_sample_size(size, "a", "b"))
    assert "seeds alone are not enough" in text and ", cross-validated" in text


def test_a_study_that_finds_5_points_already_says_so() -> None:
    size = estimate_sample_size(
        make_score(0.80, 0.001, n=3000), make_score(0.795, 0.001, n=3000, noise=50)
    )
    assert size.examples == size.examples_now
    assert "probably differ by less than 5 points" in "".join(describe_sample_size(size, "a", "b"))


def test_what_cannot_be_known_is_said() -> None:
    one, other = make_score(0.8, 0.0, seeds=1), make_score(0.75, 0.02)
    size = estimate_sample_size(one, other)
    assert size.blind and size.seeds is None and size.cross_validated_rows is None
    assert "one seed cannot show how much seeds differ" in "".join(
        describe_sample_size(size, "a", "b")
    )
    fixed = estimate_sample_size(one, other, deterministic=(True, False))
    assert not fixed.blind and fixed.seeds_now == 5


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_a_stricter_level_needs_more(level: float) -> None:
    a, b = make_score(0.80, 0.004, n=60), make_score(0.77, 0.004, n=60, noise=50)
    usual, strict = (
        estimate_sample_size(a, b, level=level),
        estimate_sample_size(a, b, level=level / 5),
    )
    assert usual.examples and strict.examples and strict.examples > usual.examples
