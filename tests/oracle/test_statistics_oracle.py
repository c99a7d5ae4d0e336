"""Our statistics beside those of statsmodels and PyMARE, on the pieces that they know.

Their numbers were written down by ``bench/oracles/statistics_oracle.py`` in an environment of its
own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import fake_records as fake

from paretune.analysis.outcomes import FailureRate
from paretune.analysis.over_tasks import (
    TaskEffect,
    heterogeneity_p_value,
    interval_of_any_task,
)
from paretune.analysis.statistics.differences import DifferenceTerms
from paretune.analysis.statistics.multiple_testing import holm_correction
from paretune.analysis.statistics.sample_size import estimate_sample_size
from paretune.analysis.statistics.scores import bootstrap_score

THEIRS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "statistics.json").read_text(encoding="utf-8")
)


def effects_of(case: dict[str, Any], freedom: list[float] | None = None) -> list[TaskEffect]:
    degrees = freedom or [20.0] * len(case["points"])
    rows = zip(case["points"], case["variance"], degrees, strict=True)
    return [TaskEffect(f"t{i}", p, 100, v, f) for i, (p, v, f) in enumerate(rows)]


def test_limits_of_failures_are_clopper_and_pearsons() -> None:
    for one in THEIRS["failure_limits"]:
        rate = FailureRate(one["failed"], one["runs"])
        assert (rate.low, rate.high) == pytest.approx((one["low"], one["high"]), abs=1e-12)


@pytest.mark.parametrize("name", THEIRS["random_effects"])
def test_the_mean_of_any_tasks_is_dersimonian_and_lairds(name: str) -> None:
    """PyMARE on the mean; statsmodels on its interval, where it does not go below no spread.

    Where effects agree better than their variances allow, ours stays as wide as those.
    """
    case = THEIRS["random_effects"][name]
    theirs, others = case["statsmodels"], case["pymare"]
    low, high = interval_of_any_task(effects_of(case))
    assert (low + high) / 2 == pytest.approx(others["mean"], abs=1e-9)
    if theirs["tau2"] < 0:  # statsmodels takes it as it is, PyMARE and we take 0
        quantile = stats.t.ppf(0.975, len(case["points"]) - 1)
        assert others["tau2"] == 0
        assert (high - low) / 2 == pytest.approx(quantile * theirs["fixed_error"], rel=1e-9)
        return
    assert others["tau2"] == pytest.approx(theirs["tau2"], abs=1e-9)
    assert others["mean"] == pytest.approx(theirs["mean"], abs=1e-9)
    half_width = theirs["half"] * max(1.0, theirs["scale"] ** -0.5)
    assert (high - low) / 2 == pytest.approx(half_width, rel=1e-9)


@pytest.mark.parametrize("name", THEIRS["heterogeneity"])
def test_effects_differ_by_welchs_test(name: str) -> None:
    case = THEIRS["heterogeneity"][name]
    p_value = heterogeneity_p_value(effects_of(case, case["freedom"]))
    assert p_value == pytest.approx(case["p"], rel=1e-9)


def test_degrees_of_freedom_are_satterthwaites() -> None:
    """Of one split those of the runs; of cross-validation those of the whole variance."""
    case = THEIRS["satterthwaite"]
    a, b = np.array(case["a"]), np.array(case["b"])
    parts = ((a.var(ddof=1) / 5, 4.0), (b.var(ddof=1) / 3, 2.0))
    split = DifferenceTerms(float(a.mean() - b.mean()), parts, (0.0, 1.0))
    assert split.freedom == pytest.approx(case["freedom"], rel=1e-12)
    assert split.p_value() == pytest.approx(case["p"], rel=1e-6)
    crossed = replace(split, between_folds=parts)
    assert crossed.p_value() == pytest.approx(case["p"], rel=1e-6)


def test_sample_sizes_are_those_of_the_paired_t_test() -> None:
    """One run each that draws nothing, on rows of which so many are won and lost."""
    for case in THEIRS["paired_sample_sizes"]:
        rows = 400
        differing = round(rows * case["deviation"] ** 2)
        won = (np.arange(rows) < differing // 2).astype(int)
        lost = ((np.arange(rows) >= differing // 2) & (np.arange(rows) < differing)).astype(int)
        a, b = (
            bootstrap_score([fake.predictions([0] * rows, wrong.tolist())], "accuracy")
            for wrong in (lost, won)
        )
        sample_size = estimate_sample_size(a, b, (True, True), case["level"])
        # Ours takes the variance from 2,000 draws, known to about 3 %.
        assert sample_size.examples == pytest.approx(case["pairs"], rel=0.08)


def test_holm_is_that_of_statsmodels() -> None:
    case = THEIRS["holm"]
    assert holm_correction(case["p"]) == pytest.approx(case["corrected"])
