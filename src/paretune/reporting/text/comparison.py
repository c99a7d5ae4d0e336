"""Two methods compared in sentences: their scores, what would decide them, their memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paretune.analysis.comparisons import describe_withheld
from paretune.analysis.memory_breakdown import (
    PART_TITLES,
    MemoryBreakdown,
    compare_breakdowns,
    differing_conditions,
    peaks_differ,
)
from paretune.analysis.pairs import Pair
from paretune.analysis.statistics.sample_size import FOUND_POINTS, POWER, SampleSize
from paretune.methods.core.titles import title_of
from paretune.reporting.text.formatting import (
    format_basis,
    format_bytes,
    format_interval,
    format_p_value,
    format_parameters,
    format_part,
    join_names,
)
from paretune.terminal.plural import pluralise
from paretune.terminal.sanitise import sanitise_line

LARGEST_NAMED = {"example": 100_000, "row": 100_000}
"""Larger numbers are not written out: the two methods are practically equal."""

POWER_NOTE = (
    f"To decide means to detect a true difference of {FOUND_POINTS:.0f} points with "
    f"{100 * POWER:.0f} % power"
)
_CONDITION_TITLES = {
    "batch_size": "batch",
    "micro_batch": "micro-batch",
    "length": "tokens of the longest sequence",
}


def describe_pair(
    pair: Pair,
    sample_size: SampleSize | None,
    failures: Sequence[str] = (),
    *,
    of_trained: bool = False,
) -> Iterable[str]:
    """The difference, whether it is proven, and what would decide it.

    Args:
        pair: from :mod:`paretune.analysis.comparisons`.
        sample_size: what would decide it; None where it is decided.
        failures: sentences on the rates of failed runs.
        of_trained: whether runs failed, so that the claim is of those that trained.
    """
    a, b = (sanitise_line(title_of(name)) for name in (pair.a, pair.b))
    difference = pair.difference
    yield f"{a} minus {b}: {format_interval(difference)} ({format_basis(difference)})."
    p = f"p {format_p_value(pair.p_holm)}"
    if pair.family > 1 or pair.reference:
        before = format_p_value(difference.p)
        sided = "one-sided comparison" if pair.reference else "comparison"
        p = f"{p} after correction for {pluralise(pair.family, sided)}, {before} before"
    why = f": {describe_withheld([pair.withheld])}" if pair.withheld else ""
    if pair.standing == "unclear":
        yield f"Undecided between {a} and {b}{why} ({p})."
        # What the difference may be, by its own interval.
        low, high = difference.low, difference.high
        points = [100 * abs(end) / difference.highest for end in (low, high)]
        ends = [f"{end:.{1 if end < 10 else 0}f}" for end in points]
        if low <= 0 <= high:
            range_ = (
                f"leaves {a} anywhere from {ends[0]} points worse to {ends[1]} points better than "
                f"{b} (95 % interval)"
            )
        else:
            nearer, farther = ends if low > 0 else reversed(ends)
            side = "ahead of" if low > 0 else "behind"
            not_proven = "" if pair.withheld else "; after correction it is not proven"
            range_ = f"puts {a} {nearer} to {farther} points {side} {b} (95 % interval){not_proven}"
        yield f"Looked at alone, this pair {range_}."
    else:
        better, worse = (a, b) if pair.standing == "above" else (b, a)
        condition = ", of runs that trained" if of_trained else ""
        yield f"Proven at 95 %: {better} is better than {worse}{condition}{why} ({p})."
    if (mcnemar := pair.mcnemar) is not None:
        yield (
            f"McNemar's exact test of accuracy, these two runs: only {a} is right on "
            f"{mcnemar.only_a} examples, only {b} on {mcnemar.only_b}, of "
            f"{difference.n_examples:,} examples x 1 seed; p {format_p_value(mcnemar.p)}."
        )
    if sample_size is not None:
        yield f"{'; '.join(describe_sample_size(sample_size, a, b))}."
        if has_number(sample_size):
            yield f"{POWER_NOTE}."
    yield from map(sanitise_line, failures)


def describe_sample_size(size: SampleSize, a: str, b: str) -> list[str]:
    """``To decide between a and b: about 20 seeds, or 400 examples``, and further clauses.

    Args:
        a: title of the first method.
        b: title of the second method.
    """
    if size.would_detect:
        probably = f"probably differ by less than {FOUND_POINTS:.0f} points"
        return [f"The scores of {a} and {b} {probably}", "this study would already detect that"]
    decide, now = f"To decide between {a} and {b}", f"now {size.rows_now:,}"
    if size.blind:
        return [f"{decide}: more runs that train", "how much runs differ is not known yet"]
    if rows := describe_rows(size):
        return [f"{decide}: {rows}", now]
    reason = "more rows alone are not enough, since runs differ too much"
    return [f"{decide}: more seeds", reason]


def describe_rows(size: SampleSize) -> str:
    """``about 900 to 2,400 labelled rows``; empty where no number is enough."""
    noun = "labelled row" if size.cross_validated else "example"
    if size.low is None:
        return ""
    most = LARGEST_NAMED[noun.split()[-1]]
    if size.high is None or size.high > most:
        least = approximate(size.low, noun)
        return least if least.startswith("more") else f"{least} at least"
    low, high = (approximate(count, noun) for count in (size.low, size.high))
    if size.low <= size.rows_now:
        return high.replace("about", "up to")
    return (
        high if low == high else f"{low.removesuffix(f' {noun}s')} to {high.removeprefix('about ')}"
    )


def has_number(size: SampleSize) -> bool:
    """Whether :func:`describe_sample_size` gives a number, to which :data:`POWER` applies."""
    return bool(describe_rows(size)) and not size.blind


def approximate(count: int, noun: str) -> str:
    """``about 1,300 test examples``: rounded up to two digits, since it is an estimate.

    Beyond :data:`LARGEST_NAMED`: ``more than 100,000 test examples``.
    """
    most = LARGEST_NAMED[noun.split()[-1]]
    if count > most:
        return f"more than {most:,} {noun}s"
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"about {pluralise(-(-count // step) * step, noun)}"


def explain_memory_difference(
    name: str, a: MemoryBreakdown, reference_name: str, b: MemoryBreakdown
) -> Iterable[str]:
    """Say why a method takes more or less memory than another on the same task and model.

    Empty where a peak in training was not measured.

    Args:
        name: name of the method, as readers see it.
        reference_name: name of the method that it is compared with.
    """
    if a.peak is None or b.peak is None:
        return
    name, reference_name = sanitise_line(name), sanitise_line(reference_name)
    yield (
        f"Peak memory in training: {format_bytes(a.peak)} with {name}, {format_bytes(b.peak)} with "
        f"{reference_name}, {_format_difference(a.peak - b.peak)}."
    )
    if a.measurements == b.measurements == 1:
        yield "One solo measurement each, in a fresh process; no interval can be given."
    else:
        yield (
            f"Means of {pluralise(a.measurements, 'solo measurement')} and of {b.measurements}, "
            "each in a fresh process."
        )
    if differing := differing_conditions(a, b):
        conditions = [
            f"{_CONDITION_TITLES.get(key, key)} {of_a} against {of_b}"
            for key, of_a, of_b in differing
        ]
        yield (
            f"They were not measured under the same conditions ({join_names(conditions)}), so the "
            "difference is not due to the methods alone."
        )
    if a.peak != b.peak and not peaks_differ(a, b):
        yield (
            "Two measurements of one run on a CPU may differ as much: the peaks cannot be "
            "separated."
        )
    parts = compare_breakdowns(a, b)
    if not parts:
        names = [n for n, memory in ((name, a), (reference_name, b)) if memory.working is None]
        yield f"Where it lies is not known: the parts of {join_names(names)} do not add up."
        return
    yield "Where the difference lies, largest first; the lines add up to it:"
    for part in parts:
        sizes = f"{format_part(part.a)} against {format_part(part.b)}"
        yield f"  {PART_TITLES[part.part]}: {_format_difference(part.difference)} ({sizes})"
    if any(part.part == "working" for part in parts) and (a.rest is None or b.rest is None):
        yield (
            "Activations and temporary results are one line, since the counted forward pass saves "
            "more than there was room for under a peak."
        )
    if a.trained is not None and b.trained is not None and a.trained != b.trained:
        yield (
            f"Trained parameters: {format_parameters(a.trained)} with {name}, "
            f"{format_parameters(b.trained)} with {reference_name}. Gradients and optimiser states "
            "follow from that, of word embeddings from the rows that occur in the texts."
        )


def _format_difference(difference: float) -> str:
    if abs(difference) < 0.5:
        return "no difference"
    return f"{format_bytes(abs(difference))} {'more' if difference > 0 else 'less'}"
