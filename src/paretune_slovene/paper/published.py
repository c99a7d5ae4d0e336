"""The paper's conclusions judged by its own published numbers.

No answers were published, so nothing can be paired. Each run's number of correct answers is known,
which gives Wilson's interval, and two runs are compared by Newcombe's interval and the score
test (:mod:`paretune.analysis.statistics.intervals`): on accuracy, since no interval of an F1
follows from its value. A run counts as a constant answer if both its accuracy and its weighted F1
are those of one label for every example. Where the paper's own values point the other way than its
conclusion, they contradict it without a test: it concludes from values that it does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from paretune.analysis.statistics.intervals import Interval, newcombe_difference, wilson_interval
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.sample_size import POWER
from paretune.metrics.classification import WEIGHTED_F1
from paretune.reporting.text.formatting import format_interval
from paretune_slovene.paper.claims import (
    MARGIN,
    Claim,
    ClaimComparison,
    ClaimVerdict,
    compare_counts,
    correct_p_values,
    judge,
)

GIGA = 1e9
STEP = 1.01e-4
"""Published shares are truncated after four digits."""
_GB_STEP = 0.1
"""Published memory is rounded to this."""


@dataclass(frozen=True)
class PublishedRun:
    """One published run; values that the paper does not give are None.

    Attributes:
        model: the paper's short name.
        method: paretune's name.
        n: test examples.
        right: correct answers.
        f1: weighted F1.
        gb: memory in 10^9 bytes.
        length: how long it trained, as the paper says it (``400 steps``).
        constant: the label whose constant answer has the same scores.
        flaw: why the paper describes the run wrongly.
    """

    task: str
    model: str
    method: str
    n: int
    right: int | None
    f1: float | None
    gb: float
    batch: int
    length: str
    trained: int | None
    constant: str | None
    flaw: str


def score_constant_labels(labels: Mapping[str, int]) -> dict[str, tuple[int, float]]:
    """Correct answers and weighted F1 of each label if it is the answer to every example."""
    rows = [i for i, count in enumerate(labels.values()) for _ in range(count)]
    return {
        name: (count, WEIGHTED_F1.compute(rows, [i] * len(rows)))
        for i, (name, count) in enumerate(labels.items())
    }


def find_constant_label(
    right: int | None, f1: float | None, labels: Mapping[str, int]
) -> str | None:
    """The label whose constant answer has these correct answers and this weighted F1."""
    if right is None or f1 is None:
        return None
    for name, (count, value) in score_constant_labels(labels).items():
        if count == right and abs(value - f1) < STEP:
            return name
    return None


def judge_published(claim: Claim, runs: Sequence[PublishedRun]) -> ClaimVerdict:
    """The verdict of published runs on a conclusion."""

    def decide(place: int, difference: Interval, p: float) -> Mapping[str, Any]:
        clear = p < ALPHA and difference.estimate > 0
        if clear or (claim.relation == "not_below" and difference.low > -MARGIN):
            return {"standing": "for", "examples": None}
        return {}

    return judge(claim, correct_p_values(list(_compare_runs(claim, runs)), decide))


def list_bars(runs: Sequence[PublishedRun]) -> tuple[SimpleNamespace, ...]:
    """The paper's bars: weighted F1, and accuracy, of which an interval follows."""
    bars = []
    for run in runs:
        text, interval = "–", None
        if run.right is not None and run.f1 is not None:
            interval = wilson_interval(run.right, run.n)
            constant = f", constant “{run.constant}”" if run.constant else ""
            text = f"{run.f1:.2f}{constant} (accuracy {format_interval(interval)}, {run.n} × 1)"
        about = {"model": run.model, "task": run.task, "method": run.method, "score": text}
        bars.append(SimpleNamespace(memory=f"{run.gb:.1f} GB", interval=interval, **about))
    return tuple(bars)


def _compare_runs(claim: Claim, runs: Sequence[PublishedRun]) -> Iterable[ClaimComparison]:
    by_cell = {(run.task, run.model, run.method): run for run in runs}
    models = dict.fromkeys(run.model for run in runs)
    for task in claim.tasks:
        for model in models:
            if claim.models and model not in claim.models:
                continue
            for more, less in claim.pairs:
                a, b = by_cell.get((task, model, more)), by_cell.get((task, model, less))
                if a is not None and b is not None:
                    yield _compare(claim, a, b)


def _compare(claim: Claim, a: PublishedRun, b: PublishedRun) -> ClaimComparison:
    comparison = ClaimComparison(a.task, a.model, a.method, b.method, "unclear")
    if claim.kind == "score":
        return _compare_scores(claim, comparison, a, b)
    if claim.kind == "parameters":
        return compare_counts(comparison, (a.trained, b.trained), "not published")
    comparison = replace(comparison, amounts=(a.gb * GIGA, b.gb * GIGA))
    # The length of training does not change a peak.
    reasons = [f"{run.method}: {run.flaw}" for run in (a, b) if run.flaw]
    if a.batch != b.batch:
        reasons.append(f"batches of {a.batch} and {b.batch}")
    if reasons:
        return replace(comparison, standing="unlike", why="; ".join(reasons))
    if claim.times is not None:
        enough = a.gb / b.gb >= claim.times - 0.5
        return replace(comparison, standing="for" if enough else "against")
    if abs(a.gb - b.gb) < 1.5 * _GB_STEP:
        return replace(comparison, why="no further apart than the rounding")
    return replace(comparison, standing="for" if a.gb > b.gb else "against")


def _compare_scores(
    claim: Claim, comparison: ClaimComparison, a: PublishedRun, b: PublishedRun
) -> ClaimComparison:
    if a.right is None or b.right is None or a.f1 is None or b.f1 is None:
        why = "a score of texts has no interval without them"
        if a.length != b.length:
            why += f"; {a.method} trained for {a.length}, {b.method} for {b.length}"
        return replace(comparison, why=why)
    comparison = replace(
        comparison,
        scores=(wilson_interval(a.right, a.n), wilson_interval(b.right, b.n)),
        difference=newcombe_difference(a.right, a.n, b.right, b.n),
    )
    constant = [f"{run.method} scores as always “{run.constant}”" for run in (a, b) if run.constant]
    if constant:
        return replace(comparison, standing="constant", why="; ".join(constant))
    margin = MARGIN if claim.relation == "not_below" else 0.0
    if a.f1 < b.f1 - margin - STEP:
        why = f"its own F1: {a.f1:.3f} and {b.f1:.3f}"
        return replace(comparison, standing="against", why=why)
    return replace(comparison, examples=estimate_examples(a.right / a.n, b.right / b.n))


def estimate_examples(a: float, b: float) -> int | None:
    """Test examples that would make the difference of two accuracies clear, if it is as observed.

    The test is two-sided at 0.05, with power 0.8, unpaired (Fleiss, Levin and Paik 2003, section
    4.2, without continuity correction). Equal accuracies give None.
    """
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

    size = None if a == b else samplesize_proportions_2indep_onetail(a - b, b, POWER, alpha=ALPHA)
    return None if size is None else math.ceil(size)
