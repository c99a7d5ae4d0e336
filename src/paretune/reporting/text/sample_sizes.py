"""How many seeds or test examples would decide a pair, in words."""

from __future__ import annotations

from paretune.analysis.statistics.sample_size import FOUND_POINTS, POWER, SampleSize
from paretune.reporting.text.formatting import format_seconds
from paretune.terminal.plural import pluralise

LARGEST_NAMED = {"seed": 1_000, "example": 100_000, "row": 100_000}
"""Larger numbers are not written out: the two methods are practically equal."""

POWER_NOTE = (
    f"These numbers would detect a true difference of {FOUND_POINTS:.0f} points with "
    f"{100 * POWER:.0f} % power."
)


def describe_sample_size(size: SampleSize, a: str, b: str) -> str:
    """``To decide between a and b, run about 20 seeds of each (now 3), or use about 400 test ...``.

    Args:
        a: title of one method.
        b: of the other.
    """
    if size.examples == size.examples_now and not size.blind:
        return (
            f"The scores of {a} and {b} probably differ by less than {FOUND_POINTS:.0f} points: "
            "this study would already detect that."
        )
    folds = ""
    if size.cross_validated_rows:
        rows = approximate(size.cross_validated_rows, "labelled row")
        folds = f"; or cross-validate {rows}, 5 runs each"
    return f"To decide between {a} and {b}, {_describe_split(size)}{folds}."


def _describe_split(size: SampleSize) -> str:
    examples = f"{approximate(size.examples or 0, 'test example')} (now {size.examples_now:,})"
    time = f"; {format_seconds(size.seconds)} more" if size.seconds else ""
    seeds = f"run {approximate(size.seeds or 0, 'seed')} of each (now {size.seeds_now}{time})"
    if size.blind:
        on = "" if size.examples is None else f" on {examples}"
        return f"run more seeds{on}: one seed cannot show how much seeds differ"
    if size.seeds and size.examples:
        return f"{seeds}, or use {examples}"
    if size.seeds:
        return f"{seeds}; more test examples alone are not enough, since seeds differ too much"
    if size.examples:
        reason = "the test part is too small" if size.varies else "they change nothing here"
        return f"use {examples}; more seeds alone are not enough, since {reason}"
    if size.both:
        more_seeds, more_examples = size.both
        return (
            f"run {approximate(more_seeds, 'seed')} of each (now {size.seeds_now}) on "
            f"{approximate(more_examples, 'test example')} (now {size.examples_now:,})"
        )
    return "more seeds and examples are needed than can be counted"


def abbreviate_sample_size(size: SampleSize) -> str:
    """The numbers alone: ``about 20 seeds, or 400 examples``; ``about 19 seeds on 510 ...``."""
    if size.cross_validated_rows and not (size.seeds or size.examples or size.both):
        return f"{approximate(size.cross_validated_rows, 'labelled row')}, cross-validated"
    seeds, examples = size.both or (size.seeds, size.examples)
    counts = [
        approximate(count, noun)
        for count, noun in ((seeds, "seed"), (examples, "example"))
        if count
    ]
    return (" on " if size.both else ", or ").join(counts).replace(" about ", " ")


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
