"""How many seeds or test examples would decide a pair, in words."""

from __future__ import annotations

from paretune.analysis.statistics.sample_size import FOUND_POINTS, POWER, SampleSize
from paretune.reporting.text.formatting import format_seconds, pluralise

LARGEST_NAMED = {"seed": 1_000, "example": 100_000, "row": 100_000}
"""Larger numbers are not written out: the two methods are practically equal."""

POWER_NOTE = (
    f"Numbers of seeds and examples: what finds a true difference of {FOUND_POINTS:.0f} points in "
    f"{100 * POWER:.0f} % of studies."
)


def describe_sample_size(size: SampleSize) -> str:
    """What would decide a pair: ``about 20 seeds each (3 now), or about 400 test examples ...``."""
    if size.examples == size.examples_now and not size.blind:
        return (
            f"more than is needed for {FOUND_POINTS:.0f} points, which this study finds already; "
            "they probably differ by less"
        )
    folds = ""
    if size.cross_validated_rows:
        rows = approximate(size.cross_validated_rows, "labelled row")
        folds = f"; or outer cross-validation of {rows} in 5 runs each"
    return _describe_split(size) + folds


def _describe_split(size: SampleSize) -> str:
    examples = f"{approximate(size.examples or 0, 'test example')} ({size.examples_now:,} now)"
    time = f", {format_seconds(size.seconds)} more" if size.seconds else ""
    seeds = f"{approximate(size.seeds or 0, 'seed')} each ({size.seeds_now} now{time})"
    if size.blind:
        if size.examples is None:
            return "more seeds: one seed does not show how much seeds differ"
        return f"more seeds, and {examples}: one seed does not show how much seeds differ"
    if size.seeds and size.examples:
        return f"{seeds}, or {examples}"
    if size.seeds:
        return f"{seeds}; test examples alone would not, since seeds differ too much"
    if size.examples:
        reason = "the test part is too small" if size.varies else "they change nothing here"
        return f"{examples}; seeds alone would not, since {reason}"
    if size.both:
        more_seeds, more_examples = size.both
        return (
            f"{approximate(more_seeds, 'seed')} each ({size.seeds_now} now) together with "
            f"{approximate(more_examples, 'test example')} ({size.examples_now:,} now)"
        )
    return "more of both than can be counted"


def abbreviate_sample_size(size: SampleSize) -> str:
    """The numbers alone: ``about 20 seeds, or 400 examples``."""
    if size.cross_validated_rows and not (size.seeds or size.examples or size.both):
        return f"{approximate(size.cross_validated_rows, 'labelled row')}, cross-validated"
    seeds, examples = size.both or (size.seeds, size.examples)
    counts = [
        approximate(count, noun)
        for count, noun in ((seeds, "seed"), (examples, "example"))
        if count
    ]
    return (", and " if size.both else ", or ").join(counts).replace(" about ", " ")


def has_number(size: SampleSize) -> bool:
    """Whether :func:`describe_sample_size` gives a number, to which :data:`POWER` applies."""
    return bool(size.seeds or size.examples or size.both or size.cross_validated_rows)


def approximate(count: int, noun: str) -> str:
    """``about 1,300 test examples``: rounded up to two digits, since it is an estimate.

    Beyond :data:`LARGEST_NAMED`: ``more than 100,000 test examples``.
    """
    most = LARGEST_NAMED[noun.split()[-1]]
    if count > most:
        return f"more than {most:,} {noun}s"
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"about {pluralise(-(-count // step) * step, noun)}"
