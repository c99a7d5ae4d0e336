"""Sample logs compared pair by pair, on the samples that all of them have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from paretune.analysis.statistics.multiple_testing import ALPHA, all_pairs_correction
from paretune.analysis.statistics.paired_items import (
    estimate_items,
    mean_interval,
    paired_difference,
)
from paretune.analysis.statistics.score_interval import Interval
from paretune.contrib.sample_logs.log_files import SampleLog, read_logs
from paretune.errors import DataError, StudyError
from paretune.metrics import Array
from paretune.reporting.text.formatting import format_interval, format_p_value, format_points
from paretune.terminal.sanitise import sanitise_line


@dataclass(frozen=True)
class LogScore:
    """The mean score of one log, over the samples that are compared."""

    name: str
    score: Interval


@dataclass(frozen=True)
class LogPair:
    """Two logs compared.

    Attributes:
        a, b: names of the logs.
        difference: mean score of ``a`` minus that of ``b``, paired by sample.
        p_corrected: corrected over all pairs; it decides.
        decided: whether one is proven better.
        sample_size: samples that would find a true difference of 5 points; None where it is
            decided, or where no number would do.
    """

    a: str
    b: str
    difference: Interval
    p_corrected: float
    decided: bool
    sample_size: int | None


@dataclass(frozen=True)
class LogComparison:
    """Sample logs compared by one metric.

    Attributes:
        other_metrics: that all logs have too.
        left_out: samples that some log lacks.
    """

    metric: str
    scores: tuple[LogScore, ...]
    pairs: tuple[LogPair, ...]
    samples: int
    left_out: int
    other_metrics: tuple[str, ...]
    filters: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What follows, and what it rests on."""
        return tuple(_write_sentences(self))


def compare_logs(
    paths: Sequence[Path | str], metric: str | None = None, filter_name: str | None = None
) -> LogComparison:
    """Compare the sample logs of two or more evaluations of the same samples.

    Args:
        paths: logs of lm-evaluation-harness or Inspect.
        metric: of the logs; by default the first that all have.
        filter_name: of lm-evaluation-harness, which way of reading an answer is meant.

    Raises:
        StudyError: fewer than two logs.
        DataError: a file is no such log, or they have no sample or metric in common, or different
            texts under the same number.
    """
    if len(paths) < 2:
        raise StudyError("one log cannot be compared.", remedy="Name two or more.")
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise StudyError("a log is named twice.", remedy="Name each once.")
    logs = read_logs([Path(path) for path in paths], filter_name)
    shared = [name for name in logs[0].scores if all(name in log.scores for log in logs)]
    if metric is not None and metric not in shared:
        raise DataError(
            f'not all logs have the metric "{metric}".',
            remedy=f"They all have {', '.join(shared) or 'none'}.",
        )
    if not shared:
        listed = "; ".join(f"{log.name}: {', '.join(log.scores)}" for log in logs)
        raise DataError(f"the logs have no metric in common ({listed}).")
    chosen = metric or shared[0]
    _check_same_texts(logs)
    ids = [i for i in logs[0].scores[chosen] if all(i in log.scores[chosen] for log in logs)]
    if not ids:
        raise DataError(
            "the logs have no sample in common.",
            remedy="They must be of the same task, with the same numbering of samples.",
        )
    everything = set().union(*(log.scores[chosen] for log in logs))
    scores = {log.name: np.array([log.scores[chosen][i] for i in ids]) for log in logs}
    return LogComparison(
        metric=chosen,
        scores=tuple(LogScore(name, mean_interval(own)) for name, own in scores.items()),
        pairs=tuple(_compare_pairs(scores)),
        samples=len(ids),
        left_out=len(everything) - len(ids),
        other_metrics=tuple(name for name in shared if name != chosen),
        filters=tuple(dict.fromkeys(log.chosen_filter for log in logs if log.chosen_filter)),
    )


def _check_same_texts(logs: Sequence[SampleLog]) -> None:
    first, *others = logs
    for log in others:
        both = first.texts.keys() & log.texts.keys()
        different = sorted(i for i in both if first.texts[i] != log.texts[i])
        if different:
            raise DataError(
                f"sample {different[0]} is another text in {log.name} than in {first.name} "
                f"({len(different)} of {len(both)} samples differ).",
                remedy="Compare logs of the same version of one task.",
            )


def _compare_pairs(scores: dict[str, Array]) -> Iterable[LogPair]:
    pairs = list(combinations(scores, 2))
    differences = [paired_difference(scores[a], scores[b]) for a, b in pairs]
    corrected = all_pairs_correction([one.p for one in differences], len(scores))
    for (a, b), difference, p in zip(pairs, differences, corrected, strict=True):
        decided = p < ALPHA
        sample_size = None
        if not decided:
            sample_size = estimate_items(scores[a], scores[b], ALPHA / len(pairs))
        yield LogPair(a, b, difference, p, decided, sample_size)


def _write_sentences(comparison: LogComparison) -> Iterable[str]:
    for pair in comparison.pairs:
        a, b = sanitise_line(pair.a), sanitise_line(pair.b)
        text = f"{format_interval(pair.difference, 3)}, p {format_p_value(pair.p_corrected)}"
        if pair.decided:
            better, worse = (a, b) if pair.difference.estimate > 0 else (b, a)
            yield f"{better} is better than {worse}: {a} minus {b} {text}."
            continue
        below, above = (
            format_points(max(end, 0.0), 1.0)
            for end in (-pair.difference.low, pair.difference.high)
        )
        yield (
            f"No verdict between {a} and {b}: {a} minus {b} {text}. {a} may be {below} points "
            f"worse or {above} points better."
        )
        if pair.sample_size is not None:
            yield (
                f"A true difference of 5 points would be found by {pair.sample_size:,} samples in "
                "80 % of such evaluations."
            )
    corrected = (
        f", p corrected over all {len(comparison.pairs)} pairs" if len(comparison.pairs) > 1 else ""
    )
    by = f" ({', '.join(map(sanitise_line, comparison.filters))})" if comparison.filters else ""
    yield (
        f"{sanitise_line(comparison.metric)}{by}: {comparison.samples:,} samples, one run each, "
        f"paired by sample, intervals 95 %{corrected}. What another seed, prompt or training run "
        "would change is not in them."
    )
    if comparison.left_out:
        yield f"Left out: {comparison.left_out:,} samples that not all logs have."
    if comparison.other_metrics:
        names = ", ".join(map(sanitise_line, comparison.other_metrics))
        yield f"The logs also have {names}: choose with --metric."
