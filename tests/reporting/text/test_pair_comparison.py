"""Two methods, in sentences."""

import pytest

from paretune.analysis.outcomes import FailureRate
from paretune.analysis.pairs import Pair
from paretune.analysis.statistics.intervals import Interval
from paretune.reporting.text.comparison import describe_pair
from paretune.reporting.text.formatting import describe_failures


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
    pair = Pair("lora", "b", difference, p_holm=0.12, mcnemar=None, family=5)
    (_estimate, verdict, unproven) = describe_pair(pair, None)
    assert verdict == (
        "Undecided between LoRA and b (p 0.120 after correction for 5 comparisons, 0.020 before)."
    )
    assert sentence in unproven


def test_the_failures_of_one_run_are_told_in_the_singular() -> None:
    sentence = describe_failures("LoRA", FailureRate(0, 1))
    assert sentence.startswith("Failures of LoRA: 0 of 1 run; the true failure rate could still")
