"""The paper's conclusions judged by the records of a study: paired, over seeds and examples.

Scores are weighted F1, as in the paper, whatever a task's own metric is; both sides answer the same
examples and are compared as everywhere
(:mod:`paretune.analysis.statistics.differences`), corrected over the claim's comparisons
(Holm). A side of which at least half of the scored seeds answered a constant is
a constant answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from paretune.analysis.cell import NO_MODEL, Cell
from paretune.analysis.learning_check import is_mostly_collapsed
from paretune.analysis.pareto.costs import count_trained_parameters, estimate_cost
from paretune.analysis.statistics.differences import estimate_variances, on_common_rows
from paretune.analysis.statistics.intervals import Interval, confidence_interval, score_difference
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.sample_size import SampleSize, estimate_sample_size
from paretune.analysis.statistics.scores import RunScores
from paretune.reporting.text.formatting import format_bytes, format_interval, format_n_by_seeds
from paretune.study import Study
from paretune.terminal.sanitise import sanitise_line
from paretune_slovene.paper.claims import (
    MARGIN,
    Claim,
    ClaimComparison,
    ClaimVerdict,
    compare_counts,
    correct_p_values,
    hub_names,
    judge,
)

CLOSE = 0.05
"""Memory peaks that differ by less count as equal: full fine-tuning measured again on a CPU differs
by up to 4.2 % (docs/how-it-works/measuring.md)."""


def judge_study(claim: Claim, study: Study, cells: Sequence[Cell]) -> ClaimVerdict:
    """The verdict of a study's cells on a conclusion.

    It is judged on the models that the conclusion names, if the study has one of them; otherwise
    all of its models stand in for them.

    Raises:
        StoreError: two cells of one task answered different examples.
    """
    short_names = {m.key: hub_names().get(m.name) for m in study.models}
    named = [key for key, name in short_names.items() if name in claim.models]
    models = named if claim.models and named else list(short_names)
    tasks = [t.key for t in study.tasks if t.name in claim.tasks]
    comparisons, sides = [], []
    for task in tasks:
        for model in models:
            on_model = [c for c in cells if c.task == task and c.model == model != NO_MODEL]
            for more, less in claim.pairs:
                for a in (c for c in on_model if c.name == more):
                    for b in (c for c in on_model if c.name == less):
                        comparisons.append(_compare(claim, a, b))
                        sides.append((a, b))

    def decide(place: int, difference: Interval, p: float) -> Mapping[str, Any]:
        if p < ALPHA:
            return {"standing": "for" if difference.estimate > 0 else "against"}
        if claim.relation == "not_below" and difference.low > -MARGIN * difference.highest:
            return {"standing": "for"}
        return {"sample_size": _estimate_sample_size(*sides[place])}

    verdict = judge(claim, correct_p_values(comparisons, decide))
    return replace(verdict, stand_in=bool(claim.models and not named))


def _compare(claim: Claim, a: Cell, b: Cell) -> ClaimComparison:
    comparison = ClaimComparison(a.task, a.model, a.method, b.method, "unclear")
    if claim.kind == "score":
        return _compare_scores(comparison, a, b)
    if claim.kind == "parameters":
        counts = count_trained_parameters(a), count_trained_parameters(b)
        return compare_counts(comparison, counts, "not counted yet")
    peaks = estimate_cost(a, "memory"), estimate_cost(b, "memory")
    if peaks[0] is None or peaks[1] is None:
        return replace(comparison, standing="absent", why="not measured yet")
    comparison = replace(
        comparison,
        amounts=(peaks[0].value, peaks[1].value),
        readings=(peaks[0].measurements, peaks[1].measurements),
    )
    batches = [{r.run.training.batch_size for r in c.cost} for c in (a, b)]
    if batches[0] != batches[1]:
        sizes = [", ".join(map(str, sorted(sizes))) for sizes in batches]
        return replace(comparison, standing="unlike", why=f"batches of {sizes[0]} and {sizes[1]}")
    ratio = peaks[0].value / peaks[1].value
    if claim.times is not None:
        return replace(comparison, standing="for" if ratio >= claim.times - 0.5 else "against")
    if 1 - CLOSE < ratio < 1 + CLOSE:
        return replace(comparison, why=f"within {CLOSE:.0%} of each other")
    return replace(comparison, standing="for" if ratio > 1 else "against")


def _compare_scores(comparison: ClaimComparison, a: Cell, b: Cell) -> ClaimComparison:
    scores = _score(a), _score(b)
    if scores[0] is None or scores[1] is None:
        return replace(comparison, standing="absent", why="not scored yet")
    comparison = replace(
        comparison,
        scores=(confidence_interval(scores[0]), confidence_interval(scores[1])),
        difference=score_difference(scores[0], scores[1]),
    )
    constant = [
        f"{c.method} answered a constant ({c.outcomes['collapsed']} of {len(c.final)})"
        for c in (a, b)
        if is_mostly_collapsed(c)
    ]
    if not constant:
        return comparison
    return replace(comparison, standing="constant", why="; ".join(constant))


def list_bars(study: Study, cells: Sequence[Cell]) -> tuple[SimpleNamespace, ...]:
    """The bars of the paper's figures, from a study's cells; a baseline stands on every model."""
    names, bars = {task.key: task.name for task in study.tasks}, []
    for cell in cells:
        scores, peak = _score(cell), estimate_cost(cell, "memory")
        text, interval = "–", None
        if scores is not None:
            interval = confidence_interval(scores)
            text = f"{format_interval(interval)} ({format_n_by_seeds(interval, '×')})"
        if is_mostly_collapsed(cell):
            text += ", constant"
        models = [m.key for m in study.models] if cell.model == NO_MODEL else [cell.model]
        about: dict[str, Any] = {"task": names[cell.task], "score": text, "interval": interval}
        about["method"] = sanitise_line(cell.method)
        about["memory"] = "–" if peak is None else format_bytes(peak.value)
        bars += [SimpleNamespace(model=sanitise_line(model), **about) for model in models]
    return tuple(bars)


def _score(cell: Cell) -> RunScores | None:
    """Weighted F1 of the runs that trained, if any did; of a translation its own metric."""
    return cell.score_by("weighted_f1" if cell.objective.predicts_labels else cell.metric)


def _estimate_sample_size(a: Cell, b: Cell) -> SampleSize | None:
    scores = _score(a), _score(b)
    if scores[0] is None or scores[1] is None:
        return None
    sides = on_common_rows(scores[0], scores[1])
    blind = any(cell.draws_seeds and len(cell.test_answers) == 1 for cell in (a, b))
    return estimate_sample_size(estimate_variances(*sides), *sides, blind=blind)
