import numpy as np
import pytest
from support import fake_records as fake

from paretune.analysis.statistics.sample_size import SampleSize, estimate_sample_size
from paretune.analysis.statistics.scores import RunScores, score_runs
from paretune.reporting.text.comparison import describe_sample_size


def draw(mean: float, spread: float, seeds: int = 5, n: int = 400, noise: int = 0) -> RunScores:
    """A cell whose seeds differ by about ``spread``."""
    levels = mean + spread * np.linspace(-1.5, 1.5, seeds) if seeds > 1 else [mean]
    parts = [fake.answers(level, n=n, seed=noise + seed) for seed, level in enumerate(levels)]
    return score_runs(parts, "accuracy")


def describe(size: SampleSize) -> str:
    return "".join(describe_sample_size(size, "a", "b"))


def test_examples_alone_do_not_decide_where_seeds_differ() -> None:
    a, b = draw(0.80, 0.08), draw(0.76, 0.08, noise=50)
    size = estimate_sample_size(a, b)
    assert size.seeds is not None and size.seeds > 5 and size.examples is None
    assert (size.seeds_now, size.examples_now, size.varies, size.blind) == (5, 400, True, False)
    assert "examples alone are not enough" in describe(size)
    timed = estimate_sample_size(a, b, run_seconds=(60.0, 30.0))
    assert timed.seconds == 90 * (size.seeds - 5)
    assert estimate_sample_size(a, b, run_seconds=(60.0, None)).seconds is None


def test_examples_decide_where_nothing_is_drawn() -> None:
    a, b = draw(0.80, 0.0, seeds=1, n=60), draw(0.78, 0.0, seeds=1, n=60, noise=50)
    size = estimate_sample_size(a, b, deterministic=(True, True))
    assert size.seeds is None and size.examples is not None and size.examples > 60
    assert ", cross-validated" in describe(size)


def test_a_study_that_finds_5_points_already_says_so() -> None:
    size = estimate_sample_size(draw(0.8, 0.0, n=3000), draw(0.795, 0.0, n=3000, noise=50))
    assert size.examples == size.examples_now
    assert "probably differ by less than 5 points" in describe(size)


def test_what_cannot_be_known_is_said() -> None:
    one, several = draw(0.8, 0.0, seeds=1), draw(0.75, 0.02)
    size = estimate_sample_size(one, several)
    assert size.blind and size.seeds is None and size.cross_validated_rows is None
    assert "one seed cannot show how much seeds differ" in describe(size)
    fixed = estimate_sample_size(one, several, deterministic=(True, False))
    assert not fixed.blind and fixed.seeds_now == 5


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_a_stricter_level_needs_more(level: float) -> None:
    a, b = draw(0.80, 0.0, seeds=1, n=60), draw(0.77, 0.0, seeds=1, n=60, noise=50)
    fixed = (True, True)
    usual, strict = (estimate_sample_size(a, b, fixed, value) for value in (level, level / 5))
    assert usual.examples and strict.examples and strict.examples > usual.examples
