"""What the records of a study say of the paper's conclusions: paired, seeds and examples both.

Scores are weighted F1, the paper's, whatever a task's own metric is; both sides' answers are of the
same examples and are compared as everywhere
(:mod:`paretune.analysis.statistics.conservative_difference`), corrected over the
claim's comparisons (Holm). A side of which at least half of the scored seeds answered a constant is
a constant answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.pareto.costs import count_trained_parameters, estimate_cost
from paretune.analysis.run_selection import add_failed_seeds
from paretune.analysis.score_with_failures import count_failed_seeds
from paretune.analysis.statistics.conservative_difference import conservative_difference
from paretune.analysis.statistics.multiple_testing import ALPHA, holm_correction
from paretune.analysis.statistics.sample_size import SampleSize, estimate_sample_size
from paretune.analysis.statistics.score_interval import (
    BootstrapScore,
    bootstrap_score,
    confidence_interval,
)
from paretune.contrib.paper.claims import MARGIN, Claim, hub_names
from paretune.contrib.paper.judging import ClaimComparison, ClaimVerdict, Standing, judge
from paretune.study import Study

CLOSE = 0.05
"""Peaks of memory that differ by less may be the same: full fine-tuning measured again on a CPU
differs by up to 4.2 % (docs/measuring.md)."""


def judge_study(claim: Claim, study: Study, cells: Sequence[Cell]) -> ClaimVerdict:
    """What a study's cells say of a conclusion.

    On the models that the conclusion names, where the study has one of them; otherwise on all that
    it has, which then stand in for them.

    Raises:
        StoreError: two cells of one task answered different examples.
    """
    short = {m.key: hub_names().get(m.name) for m in study.models}
    named = [key for key, name in short.items() if name in claim.models]
    models = named if claim.models and named else list(short)
    tasks = [t.key for t in study.tasks if t.name in claim.tasks]
    found, sides = [], []
    for task in tasks:
        for model in models:
            here = [c for c in cells if c.task == task and c.model == model != NO_MODEL]
            for a, b in claim.pairs:
                for one in (c for c in here if c.name == a):
                    for other in (c for c in here if c.name == b):
                        made = ClaimComparison(task, model, one.method, other.method, "unclear")
                        found.append(_pair(claim, made, one, other))
                        sides.append((one, other))
    judged = judge(claim, _corrected(claim, found, sides))
    return replace(judged, stand_in=bool(claim.models and not named))


def _is_constant(cell: Cell) -> bool:
    """At least half of the seeds that have answers gave one answer to everything."""
    count = cell.outcomes.get("collapsed", 0)
    return bool(count) and 2 * count >= len(cell.final) - cell.unscored_runs


def _pair(claim: Claim, made: ClaimComparison, a: Cell, b: Cell) -> ClaimComparison:
    if claim.kind == "score":
        return _scores(made, a, b)
    if claim.kind == "parameters":
        counts = count_trained_parameters(a), count_trained_parameters(b)
        if counts[0] is None or counts[1] is None:
            return replace(made, standing="absent", why="not counted yet")
        standing: Standing = "for" if counts[0] > counts[1] else "against"
        return replace(made, standing=standing, amounts=(counts[0], counts[1]), readings=(0, 0))
    one, other = estimate_cost(a, "memory"), estimate_cost(b, "memory")
    if one is None or other is None:
        return replace(made, standing="absent", why="not measured yet")
    made = replace(
        made,
        amounts=(one.value, other.value),
        readings=(one.measurements, other.measurements),
    )
    batches = [{r.run.training.batch_size for r in c.cost} for c in (a, b)]
    if batches[0] != batches[1]:
        sizes = [", ".join(map(str, sorted(b))) for b in batches]
        return replace(made, standing="unlike", why=f"batches of {sizes[0]} and {sizes[1]}")
    ratio = one.value / other.value
    if claim.times is not None:
        return replace(made, standing="for" if ratio >= claim.times - 0.5 else "against")
    if 1 - CLOSE < ratio < 1 + CLOSE:
        return replace(made, why=f"within {CLOSE:.0%} of each other")
    return replace(made, standing="for" if ratio > 1 else "against")


def _scores(made: ClaimComparison, a: Cell, b: Cell) -> ClaimComparison:
    one, other = _f1(a), _f1(b)
    if one is None or other is None:
        return replace(made, standing="absent", why="not scored yet")
    made = replace(
        made,
        scores=(confidence_interval(one), confidence_interval(other)),
        difference=conservative_difference(one, other),
    )
    said = [
        f"{c.method} answered a constant ({c.outcomes['collapsed']} of {len(c.final)})"
        for c in (a, b)
        if _is_constant(c)
    ]
    return replace(made, standing="constant", why="; ".join(said)) if said else made


def _f1(cell: Cell) -> BootstrapScore | None:
    """Weighted F1 (of a translation its own score), lost seeds counted as the lowest."""
    if not cell.answers:
        return None
    found = bootstrap_score(
        cell.answers, "weighted_f1" if cell.objective.predicts_labels else cell.metric
    )
    lost = count_failed_seeds(cell)
    return add_failed_seeds(found, lost, 0.0) if lost else found


def _corrected(
    claim: Claim, found: list[ClaimComparison], sides: Sequence[tuple[Cell, Cell]]
) -> list[ClaimComparison]:
    open_ = {
        i: one.difference
        for i, one in enumerate(found)
        if one.difference is not None and one.standing == "unclear"
    }
    corrected = holm_correction([difference.p for difference in open_.values()])
    for (i, difference), p in zip(open_.items(), corrected, strict=True):
        one = replace(found[i], p_holm=p)
        margin = MARGIN * difference.highest
        if p < ALPHA:
            one = replace(one, standing="for" if difference.estimate > 0 else "against")
        elif claim.relation == "not_below" and difference.low > -margin:
            one = replace(one, standing="for")
        else:
            one = replace(one, needed=_needed(*sides[i]))
        found[i] = one
    return found


def _needed(a: Cell, b: Cell) -> SampleSize | None:
    one, other = _f1(a), _f1(b)
    return (
        None
        if one is None or other is None
        else estimate_sample_size(one, other, (a.deterministic, b.deterministic))
    )
