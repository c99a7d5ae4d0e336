from dataclasses import replace

import pytest

from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.statistics.intervals import Interval
from paretune.reporting.text.formatting import (
    format_bytes,
    format_cost,
    format_estimate,
    format_interval,
    format_parameters,
    format_rate,
    format_seconds,
    join_names,
)
from paretune.terminal.plural import pluralise


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "1e-3"), (2.5e-5, "2.5e-5"), (3e-4, "3e-4"), (0.0316, "3.16e-2"), (None, "–")],
)
def test_rates(value: float | None, text: str) -> None:
    assert format_rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1_500, "1.46 KiB"),
        (999.7 * 2**10, "1000 KiB"),
        (870 * 2**20, "870 MiB"),
        (1890 * 2**20, "1.85 GiB"),
        (80 * 2**30, "80.0 GiB"),
    ],
)
def test_sizes(value: float, text: str) -> None:
    assert format_bytes(value) == text


def test_seconds_keep_the_unit_of_the_median() -> None:
    assert format_seconds(0.84, 0.82, 1.1) == "840 ms (820–1100)"
    assert format_seconds(12.34) == "12.3 s"
    assert format_seconds(0.00012) == "120 µs"


def test_parameters_and_lists() -> None:
    assert format_parameters(117_653_763) == "118 M"
    assert format_parameters(296_067) == "296 k"
    assert format_parameters(999_600) == "1.00 M"
    assert format_parameters(42) == "42"
    assert join_names(["a", "b", "c"]) == "a, b and c"
    assert join_names(["a"]) == "a"
    assert pluralise(1, "seed") == "1 seed"


def test_what_rounds_to_nothing_has_no_sign() -> None:
    interval = Interval(-0.001, -0.004, 0.03, n_examples=60, n_seeds=3, share_seeds=0.1)
    assert format_interval(interval) == "0.00 [0.00, 0.03]"
    assert format_interval(replace(interval, estimate=-0.01)) == "-0.01 [0.00, 0.03]"
    assert format_estimate(interval) == "0.00"


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("memory", 870 * 2**20, "870 MiB peak memory"),
        ("time", 66.0, "66.0 s to train"),
        ("time", 600.0, "10.0 min to train"),
        ("time", 9000.0, "2.5 h to train"),
        ("inference", 0.011, "11.0 ms an example in inference"),
    ],
)
def test_costs_say_what_they_stand_on(axis, value: float, text: str) -> None:
    assert format_cost(axis, CostEstimate(value)) == text
    assert "mean of 3 measurements" in format_cost(axis, CostEstimate(value, measurements=3))
