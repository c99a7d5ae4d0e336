import numpy as np
import pytest
from support import fake_records as fake

from paretune.analysis.design import TestDesign
from paretune.analysis.statistics.differences import estimate_variances
from paretune.analysis.statistics.sample_size import SampleSize, estimate_sample_size
from paretune.analysis.statistics.scores import RunScores, score_runs
from paretune.reporting.text.comparison import describe_sample_size


def draw(mean: float, spread: float, seeds: int = 5, n: int = 400, noise: int = 0) -> RunScores:
    """A cell whose seeds differ by about ``spread``."""
    levels = mean + spread * np.linspace(-1.5, 1.5, seeds) if seeds > 1 else [mean]
    parts = [fake.answers(level, n=n, seed=noise + seed) for seed, level in enumerate(levels)]
    return score_runs(parts, "accuracy")


def crossed(quality: float, noise: int) -> RunScores:
    folds = np.arange(300)[None] % 5
    answers = [fake.answers(quality, n=300, seed=noise)]
    return score_runs(answers, "accuracy", TestDesign(5, 1, 5), folds)


def size_of(a: RunScores, b: RunScores, level: float = 0.05, blind: bool = False) -> SampleSize:
    return estimate_sample_size(estimate_variances(a, b), a, b, level, blind=blind)


def describe(size: SampleSize) -> str:
    return "; ".join(describe_sample_size(size, "a", "b"))


def test_examples_alone_do_not_decide_where_seeds_differ() -> None:
    size = size_of(draw(0.80, 0.12), draw(0.76, 0.12, noise=50))
    assert (size.rows_now, size.high, size.blind) == (400, None, False)
    assert size.low is None and "rows alone are not enough" in describe(size)


def test_what_runs_may_scatter_by_makes_it_a_range() -> None:
    size = size_of(draw(0.80, 0.03, 12, 60), draw(0.78, 0.03, 12, 60, noise=50))
    assert size.low is not None and size.high is not None and 60 < size.low < size.high
    assert " to " in describe(size) and describe(size).endswith("examples; now 60")


def test_cross_validated_rows_are_labelled_rows() -> None:
    size = size_of(crossed(0.8, 1), crossed(0.78, 9))
    assert size.cross_validated and size.low is not None and size.low > 300
    assert "labelled rows" in describe(size) and describe(size).endswith("now 300")


def test_where_nothing_is_drawn_the_range_is_a_number() -> None:
    size = size_of(draw(0.8, 0.0, seeds=1, n=60), draw(0.78, 0.0, seeds=1, n=60, noise=50))
    assert size.low == size.high is not None and " to " not in describe(size).split(":")[1]


def test_a_study_that_finds_5_points_already_says_so() -> None:
    size = size_of(draw(0.8, 0.0, n=3000), draw(0.795, 0.0, n=3000, noise=50))
    assert size.would_detect
    assert "probably differ by less than 5 points" in describe(size)


def test_what_cannot_be_known_is_said() -> None:
    size = size_of(draw(0.8, 0.0, seeds=1), draw(0.75, 0.02), blind=True)
    assert not size.would_detect
    assert "how much runs differ is not known yet" in describe(size)


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_a_stricter_level_needs_more(level: float) -> None:
    a, b = draw(0.80, 0.0, seeds=1, n=60), draw(0.77, 0.0, seeds=1, n=60, noise=50)
    usual, strict = (size_of(a, b, value) for value in (level, level / 5))
    assert usual.high and strict.high and strict.high > usual.high
