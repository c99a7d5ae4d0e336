"""Two methods, in sentences."""

import pytest

from paretune.analysis.outcomes import FailureRate
from paretune.analysis.pairs import Pair
from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.reporting.text.comparison import describe_pair, describe_sample_size
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


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (
            SampleSize(5, 60, None, 1234, None, varies=True, blind=False),
            "To decide between a and b: about 1,300 examples; now 5 seeds, 60 examples; more seeds "
            "alone are not enough, since the test part is too small",
        ),
        (
            SampleSize(5, 60, 14, 99, None, varies=True, blind=False),
            "To decide between a and b: about 14 seeds, or 99 examples; now 5 seeds, 60 examples",
        ),
        (
            SampleSize(3, 60, None, None, (452_608, 9_052_160), varies=True, blind=False),
            "To decide between a and b: more than 1,000 seeds on more than 100,000 examples; now 3 "
            "seeds, 60 examples",
        ),
        (
            SampleSize(3, 60, 1000, 100_000, None, varies=True, blind=False),
            "To decide between a and b: about 1,000 seeds, or 100,000 examples; now 3 seeds, 60 "
            "examples",
        ),
        (
            SampleSize(1, 60, None, 590, None, varies=False, blind=True),
            "To decide between a and b: more seeds on about 590 examples; now 1 seed, 60 examples; "
            "one seed cannot show how much seeds differ",
        ),
        (
            SampleSize(3, 60, 40, None, None, True, False, cross_validated_rows=1456, seconds=30),
            "To decide between a and b: about 40 seeds; now 3 seeds, 60 examples; the seeds take "
            "30.0 s more; more examples alone are not enough, since seeds differ too much; or "
            "about 1,500 labelled rows, cross-validated",
        ),
    ],
)
def test_numbers_to_run_are_rounded_up_and_not_written_out_where_nobody_would_run_them(
    size: SampleSize, text: str
) -> None:
    assert "; ".join(describe_sample_size(size, "a", "b")) == text
