"""Two methods beside each other, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.pairwise_ranks import Pair
from paretune.analysis.statistics.sample_size import SampleSize
from paretune.reporting.text.formatting import (
    describe_standing,
    format_basis,
    format_interval,
    format_p_value,
)
from paretune.reporting.text.sample_sizes import POWER_NOTE, describe_needed, names_number
from paretune.terminal.sanitise import sanitise_line


def describe_pair(
    pair: Pair, needed: SampleSize | None, lost: Sequence[str] = (), *, blind: bool = False
) -> Iterable[str]:
    """What a pair says: the difference, whether it is clear, and what would decide it.

    Args:
        pair: the two, decided as everywhere (:mod:`paretune.analysis.pairwise_comparisons`).
        needed: what would decide it, where it is undecided.
        lost: what is to be said of seeds that were lost.
        blind: whether one seed leaves open what seeds move.
    """
    a, b, found = (
        sanitise_line(pair.a),
        sanitise_line(pair.b),
        pair.difference,
    )
    yield f"{a} minus {b}: {format_interval(found)} ({format_basis(found)})."
    over = "not corrected: it is the only such pair"
    if pair.family > 1:
        over = f"corrected over {pair.family} pairs (Holm); {format_p_value(found.p)} uncorrected"
    yield f"{describe_standing(a, b, pair.standing)} (p {format_p_value(pair.p_holm)}, {over})."
    if blind:
        yield "One side has one seed, so the interval does not show how much seeds differ."
    if (exact := pair.mcnemar) is not None:
        yield (
            f"McNemar's exact test of accuracy, these two runs: {exact.only_a} examples only {a} "
            f"answers rightly, {exact.only_b} only {b}, of {found.n_examples:,} examples x 1 seed; "
            f"p {format_p_value(exact.p)}."
        )
    if needed is not None:
        yield f"Would decide between them: {describe_needed(needed)}."
        if names_number(needed):
            yield POWER_NOTE
    yield from (sanitise_line(text) for text in lost)
