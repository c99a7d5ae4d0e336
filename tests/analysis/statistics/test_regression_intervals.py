"""Intervals and comparisons of regressions."""

from __future__ import annotations

import numpy as np
import pytest
from support.fake_records import difference, predictions as part

from paretune.analysis.outcomes import answers_are_constant
from paretune.analysis.statistics.intervals import score_interval


def test_an_interval_may_reach_below_zero() -> None:
    rng = np.random.default_rng(3)
    label = rng.normal(0, 1, 12)
    interval = score_interval([part(label, rng.normal(0, 1, 12)), part(label, -label)], "r2")
    assert interval.low < -1 and interval.high <= 1


def test_differences_are_found_and_not_invented() -> None:
    rng = np.random.default_rng(4)
    label = rng.normal(0, 10, 150)
    good = [part(label, label + rng.normal(0, 3, 150)) for _ in range(3)]
    weak = [part(label, label + rng.normal(0, 8, 150)) for _ in range(3)]
    contrast = difference(good, weak, "r2")
    assert contrast.low > 0 and contrast.p < 0.01
    same = difference(good, [*reversed(good)], "r2")
    assert same.estimate == pytest.approx(0, abs=1e-12) and same.p > 0.5


def test_nearly_the_same_number_everywhere_is_one_answer() -> None:
    label = np.linspace(0, 100, 20)
    rng = np.random.default_rng(5)
    assert answers_are_constant([*(50 + rng.normal(0, 0.01, 20))], [*label])
    assert not answers_are_constant([*(50 + rng.normal(0, 1.0, 20))], [*label])
    assert (
        answers_are_constant([1, 1], [0, 1])
        and not answers_are_constant([1], [0])
        and not answers_are_constant([0, 1], [0, 1])
    )
