"""What would decide a pair, in words: numbers of seeds and of test examples."""

from __future__ import annotations

from paretune.analysis.statistics.sample_size import POWER, SampleSize
from paretune.reporting.text.formatting import pluralise

LARGEST_NAMED = {"seed": 1_000, "example": 100_000}
"""Above this many a number says only that two are practically equal."""

POWER_NOTE = (
    f"Numbers of seeds and examples: for {100 * POWER:.0f} % power, if the difference is what it "
    "looks like now."
)


def describe_needed(found: SampleSize) -> str:
    """What would decide a pair, in words."""
    examples = f"{approximate(found.examples or 0, 'test example')} ({found.examples_now:,} now)"
    seeds = f"{approximate(found.seeds or 0, 'seed')} each ({found.seeds_now} now)"
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
            f"{approximate(more, 'seed')} each ({found.seeds_now} now) together with "
            f"{approximate(some, 'test example')} ({found.examples_now:,} now)"
        )
    return "nothing: they score the same"


def names_number(found: SampleSize) -> bool:
    """Whether :func:`describe_needed` names a number, which holds at :data:`POWER` only."""
    return bool(found.seeds or found.examples or found.both)


def approximate(count: int, noun: str) -> str:
    """``about 1,300 test examples``: rounded up to two digits, since it is not known exactly.

    Of what nobody would run (:data:`LARGEST_NAMED`) only that it is more, not how many hundred
    thousand.
    """
    most = LARGEST_NAMED[noun.split()[-1]]
    if count > most:
        return f"more than {most:,} {noun}s"
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"about {pluralise(-(-count // step) * step, noun)}"
