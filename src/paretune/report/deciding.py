"""What would decide a pair, in words: numbers of seeds and of test examples."""

from __future__ import annotations

from paretune.analysis.needed import POWER, Needed
from paretune.report import words

MOST = {"seed": 1_000, "example": 100_000}
"""Above this many a number says only that two are practically equal."""

POWER_NOTE = (
    f"Numbers of seeds and examples: for {100 * POWER:.0f} % power, if the difference is what it "
    "looks like now."
)


def decides(found: Needed) -> str:
    """What would decide a pair, in words."""
    examples = f"{about(found.examples or 0, 'test example')} ({found.examples_now:,} now)"
    seeds = f"{about(found.seeds or 0, 'seed')} each ({found.seeds_now} now)"
    if found.blind:
        if found.examples is None:
            return "more seeds: one seed does not show how much seeds differ"
        return f"more seeds, and {examples}: one seed does not show how much seeds differ"
    if found.seeds and found.examples:
        return f"{seeds}, or {examples}"
    if found.seeds:
        return f"{seeds}; test examples alone would not, since seeds differ too much"
    if found.examples:
        why = "the test part is too small" if found.varies else "they change nothing here"
        return f"{examples}; seeds alone would not, since {why}"
    if found.both:
        more, some = found.both
        return (
            f"{about(more, 'seed')} each ({found.seeds_now} now) together with "
            f"{about(some, 'test example')} ({found.examples_now:,} now)"
        )
    return "nothing: they score the same"


def has_number(found: Needed) -> bool:
    """Whether :func:`decides` names a number, which holds at :data:`POWER` only."""
    return bool(found.seeds or found.examples or found.both)


def about(count: int, noun: str) -> str:
    """``about 1,300 test examples``: rounded up to two digits, since it is not known exactly.

    Of what nobody would run (:data:`MOST`) only that it is more, not how many hundred thousand.
    """
    most = MOST[noun.split()[-1]]
    if count > most:
        return f"more than {most:,} {noun}s"
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"about {words.counted(-(-count // step) * step, noun)}"
