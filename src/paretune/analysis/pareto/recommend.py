"""Which configuration to take: the cheapest that the best inside the budget is not clearly above.

The rule, for one task. Configurations are models x methods; seeds that were lost count
(:mod:`paretune.analysis.score_with_failures`); what is clear between two is decided elsewhere, for
every output alike (:mod:`paretune.analysis.pairwise_comparisons`).

0. Nothing is taken that scores no more than one answer for every example
   (:func:`~paretune.analysis.learning_check.best_trivial_score`), no constant answer, no
   untranslated source, and nothing of which half of the seeds or more answer a constant.
1. A configuration may be taken if it is clearly above every baseline (none missing) and inside the
   budget; a cost that was not measured is not inside.
2. Of these the best is the one of the highest score; those that it is clearly above are out. Where
   ``within`` is given, out are instead those whose estimated loss to the best is larger.
3. Of what is left, the cheapest by the chosen cost is taken; a cost that is not known comes last.
4. If nothing inside the budget is clearly above every baseline, a guess is taken and called so: of
   those that score higher than all of their baselines the highest (with ``within``, by step 2
   and 3).
5. If nothing scores higher than its baselines, the baseline of the highest score is taken (with
   ``within``, by step 2 and 3).

No clear difference is no proof of being equal: the loss is given with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paretune.analysis.baseline_comparison import Verdict
from paretune.analysis.cells import NO_MODEL, Cell
from paretune.analysis.learning_check import (
    TRIVIAL_BASELINES,
    CollapsedCells,
    TrivialScore,
    best_trivial_score,
    find_collapsed_cells,
    is_mostly_collapsed,
)
from paretune.analysis.pairwise_comparisons import PairwiseComparisons
from paretune.analysis.pareto.costs import AXES, Axis, CostEstimate, estimate_cost
from paretune.analysis.score_with_failures import (
    count_failed_seeds,
    keep_comparable,
    score_with_failures,
)
from paretune.analysis.statistics.conservative_difference import conservative_difference
from paretune.analysis.statistics.multiple_testing import ALPHA
from paretune.analysis.statistics.sample_size import SampleSize, estimate_sample_size
from paretune.analysis.statistics.score_interval import (
    BootstrapScore,
    Interval,
    confidence_interval,
)

MODEL_FREE = ("majority", "copy_source", "tfidf", "gradient_boosting")


@dataclass(frozen=True)
class Budget:
    """What may be spent: no more than ``limits`` on their axes (bytes, seconds, counts).

    ``max_loss_points`` is how much of the score may be given up, in points: hundredths of what the
    metric can come up to. ``cost_axis`` is the cost that decides what is cheap.
    """

    limits: Mapping[Axis, float] = field(default_factory=dict)
    max_loss_points: float | None = None
    cost_axis: Axis = "memory"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration with its score, lost seeds counted, its costs, and how it fits the budget.

    ``exceeded`` are the limits that it exceeds, ``unmeasured`` those whose cost was not measured.
    ``verdict`` is None for baselines that need no model.
    """

    cell: Cell
    quality: BootstrapScore
    interval: Interval
    costs: Mapping[Axis, CostEstimate]
    failed_seeds: int
    verdict: Verdict | None
    exceeded: tuple[Axis, ...]
    unmeasured: tuple[Axis, ...]

    @property
    def within_budget(self) -> bool:
        """Inside the budget, as far as everything was measured that is limited."""
        return not self.exceeded and not self.unmeasured

    @property
    def clear(self) -> bool:
        """A method that is clearly above every baseline."""
        return not self.cell.baseline and self.verdict is not None and self.verdict.above_all

    @property
    def outscores_baselines(self) -> bool:
        """A method that scores higher than each of its baselines, clearly or not."""
        against = self.verdict.comparisons if self.verdict else ()
        return bool(against) and all(one.difference.estimate > 0 for one in against)


@dataclass(frozen=True)
class Alternative:
    """A configuration beside the one that was taken: its score minus the taken one's.

    ``p`` is corrected (Holm) where the two are a pair. ``sample_size`` would decide them.
    """

    candidate: Candidate
    difference: Interval
    p: float
    sample_size: SampleSize

    @property
    def clear(self) -> bool:
        """Whether the difference is more than chance."""
        return self.p < ALPHA


RecommendationKind = Literal["method", "guess", "baseline", "none"]


@dataclass(frozen=True)
class Recommendation:
    """What to take on one task. ``chosen`` is None where nothing can be.

    ``kind``: ``method``, ``guess`` (a method that scores higher than its baselines, not clearly),
    ``baseline`` or ``none``.
    ``best`` is the highest inside the budget, ``best_alternative`` its score beside the chosen
    one's (None where they are the same), ``considered`` how many the choice was among.
    ``outside_budget`` is the highest clear one outside the budget, if it scores higher than the
    chosen.
    ``hardest_comparison`` is, of a guess, the chosen one beside the baseline that is hardest to
    tell from it (``hardest_baseline``).
    ``missing`` are baselines that are not there yet and keep a method from being clear; then
    nothing is chosen. ``unmeasured_candidates``: clear methods of which a limited cost was not
    measured. ``unfinished``: cells of which final runs are still to come. ``trivial_score`` and
    ``collapsed_cells``: what a score must exceed, and what training left constant.
    """

    task: str
    budget: Budget
    kind: RecommendationKind
    chosen: Candidate | None
    best: Candidate | None
    best_alternative: Alternative | None
    considered: int
    outside_budget: Alternative | None
    hardest_comparison: Alternative | None
    hardest_baseline: str
    missing: tuple[str, ...]
    unmeasured_candidates: tuple[Candidate, ...]
    unfinished: tuple[Cell, ...]
    candidates: tuple[Candidate, ...]
    trivial_score: TrivialScore | None
    collapsed_cells: CollapsedCells | None


def recommend(
    cells: Sequence[Cell],
    budget: Budget | None = None,
    comparisons: PairwiseComparisons | None = None,
) -> Recommendation:
    """What to take of one task's cells, by the rule above.

    Args:
        cells: those of the task.
        budget: none by default.
        comparisons: what is clear between them, where that is known already.
    """
    budget, comparisons = budget or Budget(), comparisons or PairwiseComparisons(cells)
    found = list_candidates(cells, budget, comparisons)
    floor = best_trivial_score(cells)
    worth = [c for c in found if _is_worth_taking(c, floor)]
    clear = [c for c in worth if c.clear]
    waiting = [c.verdict for c in found if not c.cell.baseline and c.verdict and not clear]
    missing = [n for v in waiting if v.standing in ("above", "none") for n in v.missing]
    kind, pool = _pool(worth, missing)
    best = max(pool, key=lambda c: c.interval.estimate) if pool else None
    chosen = best
    if best and (kind == "method" or budget.max_loss_points is not None):
        left = _not_ruled_out(best, pool, budget, comparisons)
        chosen = min(left, key=lambda c: _cheapness_key(c, budget))
    outside = max(
        (c for c in clear if not c.within_budget), key=lambda c: c.interval.estimate, default=None
    )
    higher = chosen and outside and outside.interval.estimate > chosen.interval.estimate
    hardest, baseline = (
        _hardest_baseline(chosen, found) if chosen and kind == "guess" else (None, "")
    )
    return Recommendation(
        task=cells[0].task if cells else "",
        budget=budget,
        kind=kind,
        chosen=chosen,
        best=best,
        best_alternative=_compare_with_chosen(best, chosen, comparisons)
        if best and chosen and best is not chosen
        else None,
        considered=len(pool),
        outside_budget=_compare_with_chosen(outside, chosen, comparisons)
        if higher and outside and chosen
        else None,
        hardest_comparison=hardest,
        hardest_baseline=baseline,
        missing=tuple(dict.fromkeys(missing)),
        unmeasured_candidates=tuple(c for c in clear if c.unmeasured and not c.exceeded),
        unfinished=tuple(c for c in cells if not c.finished),
        candidates=tuple(found),
        trivial_score=floor,
        collapsed_cells=find_collapsed_cells(cells),
    )


def list_candidates(
    cells: Sequence[Cell], budget: Budget, comparisons: PairwiseComparisons
) -> list[Candidate]:
    """Every cell with a score on the examples that most of them answered."""
    names = {f"{c.model}\n{c.method}": c for c in cells}
    scores = keep_comparable((name, score_with_failures(cell)) for name, cell in names.items())
    return [_candidate(names[name], found, budget, comparisons) for name, found in scores.items()]


def _candidate(
    cell: Cell, found: BootstrapScore, budget: Budget, decided: PairwiseComparisons
) -> Candidate:
    costs = {axis: cost for axis in AXES if (cost := estimate_cost(cell, axis)) is not None}
    limits = budget.limits if cell.model != NO_MODEL else {}
    return Candidate(
        cell=cell,
        quality=found,
        interval=confidence_interval(found),
        costs=costs,
        failed_seeds=count_failed_seeds(cell),
        verdict=decided.verdict(cell),
        exceeded=tuple(a for a, most in limits.items() if a in costs and costs[a].value > most),
        unmeasured=tuple(a for a in limits if a not in costs),
    )


def _is_worth_taking(candidate: Candidate, floor: TrivialScore | None) -> bool:
    """Step 0."""
    if candidate.cell.name in TRIVIAL_BASELINES or is_mostly_collapsed(candidate.cell):
        return False
    return floor is None or candidate.interval.estimate > floor.value + 1e-9


def _pool(
    worth: Sequence[Candidate], missing: Sequence[str]
) -> tuple[RecommendationKind, list[Candidate]]:
    """What the choice is among, by steps 1, 4 and 5."""
    inside = [c for c in worth if c.within_budget]
    if pool := [c for c in inside if c.clear]:
        return "method", pool
    if missing:
        return "none", []
    if pool := [c for c in inside if not c.cell.baseline and c.outscores_baselines]:
        return "guess", pool
    pool = [c for c in inside if c.cell.baseline]
    return ("baseline", pool) if pool else ("none", [])


def _not_ruled_out(
    best: Candidate, pool: Sequence[Candidate], budget: Budget, decided: PairwiseComparisons
) -> list[Candidate]:
    """Step 2: the best, and those that it does not rule out."""
    others = [c for c in pool if c is not best]
    if budget.max_loss_points is not None:
        most = budget.max_loss_points * (best.quality.highest / 100)
        losses = [best.interval.estimate - c.interval.estimate for c in others]
        near = [c for c, loss in zip(others, losses, strict=True) if loss <= most + 1e-12]
        return [best, *near]
    below = decided.find_clearly_below(best.cell, [c.cell for c in others])
    return [best, *(c for c in others if c.cell not in below)]


def _cheapness_key(candidate: Candidate, budget: Budget) -> tuple[int, int, float, float]:
    """What sorts by cheapness: no model, then the known costs, then the unknown."""
    estimate = -candidate.interval.estimate
    if candidate.cell.model == NO_MODEL:
        return 0, 0, estimate, float(MODEL_FREE.index(candidate.cell.name))
    cost = candidate.costs.get(budget.cost_axis)
    return (2, 0, 0.0, estimate) if cost is None else (1, 0, cost.value, estimate)


def _compare_with_chosen(
    other: Candidate, chosen: Candidate, decided: PairwiseComparisons
) -> Alternative:
    pair = decided.compare(other.cell, chosen.cell)
    difference = pair.difference if pair else conservative_difference(other.quality, chosen.quality)
    once = (other.cell.deterministic, chosen.cell.deterministic)
    level = ALPHA / pair.family if pair else ALPHA
    more = estimate_sample_size(other.quality, chosen.quality, once, level)
    return Alternative(other, difference, pair.p_holm if pair else difference.p, more)


def _hardest_baseline(
    chosen: Candidate, found: Sequence[Candidate]
) -> tuple[Alternative | None, str]:
    """A guess beside the baseline that is hardest to tell from it, and that baseline."""
    against = chosen.verdict.comparisons if chosen.verdict else ()
    hardest = max(against, key=lambda one: (one.p_holm, one.baseline), default=None)
    if hardest is None:
        return None, ""
    beside = next(
        c
        for c in found
        if c.cell.method == hardest.baseline and c.cell.model in (NO_MODEL, chosen.cell.model)
    )
    # What Holm's correction leaves for the hardest of k is between 0.05 / k and 0.05.
    once = (chosen.cell.deterministic, beside.cell.deterministic)
    more = estimate_sample_size(chosen.quality, beside.quality, once, ALPHA / len(against))
    return Alternative(chosen, hardest.difference, hardest.p_holm, more), hardest.baseline
