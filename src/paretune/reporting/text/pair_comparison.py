"""The comparison of two methods, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.pairwise_comparisons import describe_withheld
from paretune.analysis.pairwise_ranks import Pair
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.analysis.statistics.score_interval import Interval
from paretune.reporting.text.formatting import (
    describe_standing,
    format_basis,
    format_interval,
    format_p_value,
    format_points,
)
from paretune.reporting.text.sample_sizes import POWER_NOTE, describe_sample_size, has_number
from paretune.terminal.sanitise import sanitise_line


def describe_pair(
    pair: Pair, sample_size: SampleSize | None, failures: Sequence[str] = ()
) -> Iterable[str]:
    """The difference, whether it is proven, and what would decide it.

    Args:
        pair: from :mod:`paretune.analysis.pairwise_comparisons`.
        sample_size: what would decide it; None where it is decided.
        failures: sentences on runs that failed.
    """
    a, b, difference = sanitise_line(pair.a), sanitise_line(pair.b), pair.difference
    yield f"{a} minus {b}: {format_interval(difference)} ({format_basis(difference)})."
    correction = "not corrected: it is the only such pair"
    if pair.family > 1:
        correction = (
            f"corrected over {pair.family} comparisons; {format_p_value(difference.p)} uncorrected"
        )
    standing = describe_standing(a, b, pair.standing)
    yield f"{standing}; p {format_p_value(pair.p_holm)}, {correction}."
    if pair.standing == "unclear":
        yield _describe_unclear(a, b, difference)
    if pair.withheld:
        yield f"Why there is no verdict: {describe_withheld([pair.withheld])}."
    if (mcnemar := pair.mcnemar) is not None:
        yield (
            f"McNemar's exact test of accuracy, these two runs: only {a} is right on "
            f"{mcnemar.only_a} examples, only {b} on {mcnemar.only_b}, of "
            f"{difference.n_examples:,} examples x 1 seed; p {format_p_value(mcnemar.p)}."
        )
    if sample_size is not None:
        yield f"Would decide between them: {describe_sample_size(sample_size)}."
        if has_number(sample_size):
            yield POWER_NOTE
    yield from (sanitise_line(text) for text in failures)


def _describe_unclear(a: str, b: str, difference: Interval) -> str:
    """What the difference may be, by its own interval."""
    ends = (difference.low, difference.high)
    low, high = (format_points(abs(end), difference.highest) for end in ends)
    if difference.low <= 0 <= difference.high:
        return (
            f"{a} may be {low} points worse or {high} points better than {b} (95 %, this pair "
            "alone). That is no proof that they are equal."
        )
    points = (
        f"{low} to {high} points better" if difference.low > 0 else f"{high} to {low} points worse"
    )
    return f"By this pair alone {a} is {points} than {b} (95 %). That is no proof."
