"""Two methods beside each other, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.needed import Needed
from paretune.analysis.pairs import Pair
from paretune.report import words
from paretune.report.deciding import POWER_NOTE, decides, has_number


def comparison(
    pair: Pair, needed: Needed | None, lost: Sequence[str] = (), *, blind: bool = False
) -> Iterable[str]:
    """What a pair says: the difference, whether it is clear, and what would decide it.

    Args:
        pair: the two, decided as everywhere (:mod:`paretune.analysis.decisions`).
        needed: what would decide it, where it is undecided.
        lost: what is to be said of seeds that were lost.
        blind: whether one seed leaves open what seeds move.
    """
    a, b, found = words.plain(pair.a), words.plain(pair.b), pair.difference
    yield f"{a} minus {b}: {words.interval(found)} ({words.basis(found)})."
    over = "not corrected: it is the only such pair"
    if pair.family > 1:
        over = f"corrected over {pair.family} pairs (Holm); {words.p_value(found.p)} uncorrected"
    yield f"{words.standing(a, b, pair.standing)} (p {words.p_value(pair.p_holm)}, {over})."
    if blind:
        yield "One side has one seed, so the interval does not show how much seeds differ."
    if (exact := pair.mcnemar) is not None:
        yield (
            f"McNemar's exact test of accuracy, these two runs: {exact.only_a} examples only {a} "
            f"answers rightly, {exact.only_b} only {b}, of {found.n_examples:,} examples x 1 seed; "
            f"p {words.p_value(exact.p)}."
        )
    if needed is not None:
        yield f"Would decide between them: {decides(needed)}."
        if has_number(needed):
            yield POWER_NOTE
    yield from (words.plain(text) for text in lost)
