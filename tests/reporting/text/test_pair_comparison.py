"""Two methods, in sentences."""

import pytest

from paretune.analysis.pairwise_ranks import Pair
from paretune.analysis.statistics.score_interval import Interval
from paretune.reporting.text.pair_comparison import describe_pair


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.05, 0.29, "a may be 5.0 points worse or 29 points better than b (95 %, this pair"),
        (0.0, 0.21, "a may be 0.0 points worse or 21 points better than b (95 %, this pair"),
        (0.06, 0.29, "By this pair alone a is 6.0 to 29 points better than b (95 %)."),
        (-0.29, -0.06, "By this pair alone a is 6.0 to 29 points worse than b (95 %)."),
    ],
)
def test_what_an_unproven_difference_may_be(low: float, high: float, sentence: str) -> None:
    difference = Interval((low + high) / 2, low, high, 80, 1, 0.0, p=0.02)
    pair = Pair("a", "b", difference, p_holm=0.12, mcnemar=None, family=5)
    (_estimate, verdict, unproven) = describe_pair(pair, None)
    assert verdict.startswith("No verdict between a and b; p 0.120, corrected over 5 comparisons")
    assert sentence in unproven and "no proof" in unproven
