"""Numbers in words, and sentences on two methods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paretune.analysis.outcomes import FailureRate
from paretune.analysis.pairs import Pair
from paretune.analysis.pareto.costs import CostEstimate
from paretune.analysis.statistics.differences import Estimate
from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.reporting.text.comparison import describe_pair, describe_sample_size
from paretune.reporting.text.formatting import (
    describe_failures,
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


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (
            -0.05,
            0.29,
            "leaves LoRA anywhere from 5.0 points worse to 29 points better than b (95 %",
        ),
        (0.06, 0.29, "puts LoRA 6.0 to 29 points ahead of b (95 % interval); after correction it"),
        (-0.29, -0.06, "puts LoRA 6.0 to 29 points behind b (95 % interval); after correction it"),
    ],
)
def test_what_an_unproven_difference_may_be(low: float, high: float, sentence: str) -> None:
    difference = Interval((low + high) / 2, low, high, 80, 1, 0.0, p=0.02)
    pair = Pair("lora", "b", difference, Estimate(0.1, 0.01, ()), p_holm=0.12, family=5)
    (_estimate, verdict, unproven) = describe_pair(pair, None)
    assert verdict == (
        "Undecided between LoRA and b (p 0.120 after correction for 5 comparisons, 0.020 before)."
    )
    assert sentence in unproven


def test_the_failures_of_one_run_are_told_in_the_singular() -> None:
    sentence = describe_failures("LoRA", FailureRate(0, 1))
    assert sentence.startswith("Failures of LoRA: 0 of 1 run; the true failure rate could still")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (
            SampleSize(60, 1234, 2345),
            "To decide between a and b: about 1,300 to 2,400 examples; now 60",
        ),
        (SampleSize(60, 99, None), "To decide between a and b: about 99 examples at least; now 60"),
        (
            SampleSize(60, 452_608, None),
            "To decide between a and b: more than 100,000 examples; now 60",
        ),
        (
            SampleSize(60, 590, 590, blind=True),
            "To decide between a and b: more runs that train; how much runs differ is not known "
            "yet",
        ),
        (
            SampleSize(300, 1234, 1290, cross_validated=True),
            "To decide between a and b: about 1,300 labelled rows; now 300",
        ),
    ],
)
def test_numbers_to_run_are_rounded_up_and_not_written_out_where_nobody_would_run_them(
    size: SampleSize, text: str
) -> None:
    assert "; ".join(describe_sample_size(size, "a", "b")) == text
