"""The comparison of two methods, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.comparisons import describe_withheld
from paretune.analysis.pairs import Pair
from paretune.analysis.statistics.intervals import Interval
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.methods.core.titles import title_of
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
        pair: from :mod:`paretune.analysis.comparisons`.
        sample_size: what would decide it; None where it is decided.
        failures: sentences on runs that failed.
    """
    a, b = (sanitise_line(title_of(name)) for name in (pair.a, pair.b))
    difference = pair.difference
    yield f"{a} minus {b}: {format_interval(difference)} ({format_basis(difference)})."
    p = f"p {format_p_value(pair.p_holm)}"
    if pair.family > 1:
        before = format_p_value(difference.p)
        p = f"{p} after correction for {pair.family} comparisons, {before} before"
    why = f": {describe_withheld([pair.withheld])}" if pair.withheld else ""
    yield f"{describe_standing(a, b, pair.standing)}{why} ({p})."
    if pair.standing == "unclear":
        yield _describe_unclear(a, b, pair)
    if (mcnemar := pair.mcnemar) is not None:
        yield (
            f"McNemar's exact test of accuracy, these two runs: only {a} is right on "
            f"{mcnemar.only_a} examples, only {b} on {mcnemar.only_b}, of "
            f"{difference.n_examples:,} examples x 1 seed; p {format_p_value(mcnemar.p)}."
        )
    if sample_size is not None:
        yield describe_sample_size(sample_size, a, b)
        if has_number(sample_size):
            yield POWER_NOTE
    yield from (sanitise_line(text) for text in failures)


def _describe_unclear(a: str, b: str, pair: Pair) -> str:
    """What the difference may be, by its own interval."""
    difference: Interval = pair.difference
    ends = sorted(abs(end) for end in (difference.low, difference.high))
    if difference.low <= 0 <= difference.high:
        low, high = (
            format_points(abs(end), difference.highest) for end in (difference.low, difference.high)
        )
        return (
            f"Looked at alone, this pair leaves {a} anywhere from {low} points worse to {high} "
            f"points better than {b} (95 % interval)."
        )
    low, high = (format_points(end, difference.highest) for end in ends)
    side = "ahead of" if difference.low > 0 else "behind"
    not_proven = "" if pair.withheld else "; after correction it is not proven"
    return (
        f"Looked at alone, this pair puts {a} {low} to {high} points {side} {b} (95 % interval)"
        f"{not_proven}."
    )
