"""Two methods beside each other, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.difference import ALPHA
from paretune.analysis.needed import Needed
from paretune.analysis.pairs import Pair
from paretune.report import words
from paretune.report.advice import decides


def comparison(
    pair: Pair, pairs: int, needed: Needed | None, lost: Sequence[str] = (), *, blind: bool = False
) -> Iterable[str]:
    """What a pair says: the difference, whether it is clear, and what would decide it.

    Args:
        pair: the two.
        pairs: how many pairs there are beside it, itself included.
        needed: what would decide it, where it is undecided.
        lost: what is to be said of seeds that were lost.
        blind: whether one seed leaves open what seeds move.
    """
    a, b, found = words.plain(pair.a), words.plain(pair.b), pair.difference
    yield (
        f"{a} less {b}: {words.interval(found)} ({words.basis(found)}), "
        f"p {words.p_value(found.p)}; corrected over the {words.counted(pairs, 'pair')} here "
        f"(Holm): p {words.p_value(pair.p_holm)}."
    )
    if found.p >= ALPHA:
        yield "They cannot be told apart."
    else:
        better = a if found.estimate > 0 else b
        picked = "" if pair.standing != "unclear" else ", if this pair was meant before looking"
        yield f"{better} is clearly better{picked}."
    if blind:
        yield "One side has one seed: what other seeds would move is not in the interval."
    if (exact := pair.mcnemar) is not None:
        yield (
            f"McNemar's exact test of accuracy, these two runs: {exact.only_a} examples only {a} "
            f"answers rightly, {exact.only_b} only {b}, of {found.n_examples:,} examples x 1 seed; "
            f"p {words.p_value(exact.p)}."
        )
    if needed is not None:
        yield f"What would decide it: {decides(needed)}."
    yield from (words.plain(text) for text in lost)
